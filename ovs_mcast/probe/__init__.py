"""Where packets to a group go, and whom they reach: the public names."""

from .path import send_path
from .respond import Ready, respond
from .result import Delivery, Reachability, Responder, RoundTrip
from .send import send
from .verdict import Evidence, SendPath, Verdict
from .wire import PORT, Reason

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
