"""Make a simulator's camera frames look like a real lab while every object stays put."""

from __future__ import annotations

__version__ = "0.1.0"
