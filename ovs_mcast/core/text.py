"""Text for people, as far as strangers have a hand in it. Pure."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Return a text without characters that act on a terminal: each as Python would write it.

    Names of strangers in Open vSwitch's database may have any, also a line's end.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
