"""Does an edit still show every object where it was? Judge the picture, then the verdict.

``GeometryJudge`` reads depth and object classes off a picture; ``GeometryGuard`` compares what it
reads off an edit with the simulator's truth and returns a verdict within a ``GuardBudget``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spie_robo.guard.budget import DEVIATION_NAMES, GuardBudget

if TYPE_CHECKING:
    from spie_robo.guard.guard import GeometryGuard
    from spie_robo.guard.judge import GeometryEstimate, GeometryJudge, Judge

__all__ = [
    "DEVIATION_NAMES",
    "GeometryEstimate",
    "GeometryGuard",
    "GeometryJudge",
    "GuardBudget",
    "Judge",
]

_MODULE_OF = {
    "GeometryEstimate": "spie_robo.guard.judge",
    "GeometryGuard": "spie_robo.guard.guard",
    "GeometryJudge": "spie_robo.guard.judge",
    "Judge": "spie_robo.guard.judge",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULE_OF[name]), name)
