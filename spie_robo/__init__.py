"""Make a simulator's camera frames look like a real lab while every object stays put."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.data import EpisodeStore, EpisodeWriter
    from spie_robo.editing.guarded_editor import GuardedEditor
    from spie_robo.editor import Editor
    from spie_robo.guard import GeometryGuard, GuardBudget
    from spie_robo.types import EditResult, Frame, Geometry, GuardedEdit, GuardVerdict
    from spie_robo.wrappers import RealismWrapper, VectorRealismWrapper

__version__ = "0.1.0"

_HOMES = {
    "EditResult": "types",
    "Editor": "editor",
    "EpisodeStore": "data",
    "EpisodeWriter": "data",
    "Frame": "types",
    "Geometry": "types",
    "GeometryGuard": "guard",
    "GuardBudget": "guard",
    "GuardVerdict": "types",
    "GuardedEdit": "types",
    "GuardedEditor": "editing.guarded_editor",
    "RealismWrapper": "wrappers",
    "VectorRealismWrapper": "wrappers",
}

__all__ = [
    "EditResult",
    "Editor",
    "EpisodeStore",
    "EpisodeWriter",
    "Frame",
    "Geometry",
    "GeometryGuard",
    "GuardBudget",
    "GuardVerdict",
    "GuardedEdit",
    "GuardedEditor",
    "RealismWrapper",
    "VectorRealismWrapper",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return __all__
