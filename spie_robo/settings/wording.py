"""How messages count."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number and its noun: ``1 episode``, ``2 episodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
