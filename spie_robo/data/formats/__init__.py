"""Data sets in the formats of others: found by looking, read step by step, written and checked.

``path -> detect -> reader (an EpisodeSource) -> ... -> writer -> read back and compare``

Names are loaded on first use, so that importing this package imports no format's library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.data.formats.detect import detect_format
    from spie_robo.data.formats.export import ExportReport, Loss, export_episodes
    from spie_robo.data.formats.registry import FORMATS, Format, open_source

_HOMES = {
    "FORMATS": "registry",
    "ExportReport": "export",
    "Format": "registry",
    "Loss": "export",
    "detect_format": "detect",
    "export_episodes": "export",
    "open_source": "registry",
}

__all__ = [
    "FORMATS",
    "ExportReport",
    "Format",
    "Loss",
    "detect_format",
    "export_episodes",
    "open_source",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
