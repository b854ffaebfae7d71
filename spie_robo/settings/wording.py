"""Wording of counts in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 episode``, ``2 episodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, most: int = 120) -> str:
    """A text for one line of an error: cut where it is long, without line breaks."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}..."


def shown(value: object, most: int = 120) -> str:
    """A value as an error shows it: its ``repr``, cut where it is long."""
    if isinstance(value, (str, bytes)):
        value = value[: 4 * most]  # before repr copies megabytes
    try:
        return shortened(repr(value), most)
    except ValueError:  # Python does not write out numbers of thousands of digits
        return f"a very large {type(value).__name__}"
