"""Plain values as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_text(value: Any, nothing: str = "") -> str:
    """Return mappings and lists in one line, separated by commas; ``nothing`` stands for None."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(item, nothing)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(item, nothing) for item in value)
    return nothing if value is None else str(value)
