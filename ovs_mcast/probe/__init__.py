"""Where packets to a group go, and whom they reach: the public names."""

from .path import send_path
from .protocol import PORT, Reason
from .reachability import Delivery, Reachability, Responder, RoundTrip
from .respond import Ready, respond
from .send import send
from .verdict import Evidence, SendPath, Verdict

__all__ = [
    "PORT",
    "Delivery",
    "Evidence",
    "Reachability",
    "Ready",
    "Reason",
    "Responder",
    "RoundTrip",
    "SendPath",
    "Verdict",
    "respond",
    "send",
    "send_path",
]
