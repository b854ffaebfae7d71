"""Wording of counts and values in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 episode``, ``2 episodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, most: int = 120) -> str:
    """Cut a long text to one line for an error."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}..."


def shown(value: object, most: int = 120) -> str:
    """Return a value's ``repr`` for an error, cut where it is long."""
    if isinstance(value, (str, bytes)):
        value = value[: 4 * most]  # before repr could copy megabytes
    try:
        return shortened(repr(value), most)
    except ValueError:  # Python does not print numbers of thousands of digits
        return f"a very large {type(value).__name__}"
