"""The editor: frames in, frames in the look of the reference photos out.

The names below load torch and diffusers on first use, not when the package is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.editor.editor import Editor
    from spie_robo.editor.guidance import Guidance
    from spie_robo.editor.pipeline import SpiePipeline
    from spie_robo.editor.settings import EditorSettings

__all__ = ["Editor", "EditorSettings", "Guidance", "SpiePipeline"]

_HOMES = {
    "Editor": "editor",
    "EditorSettings": "settings",
    "Guidance": "guidance",
    "SpiePipeline": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
