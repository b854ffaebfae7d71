"""AI feedback: how well an edit kept the scene, how near it came to the lab, and which is best.

``FeedbackInput + K edits -> FeedbackModel.score() -> Scores -> rank() -> Feedback``

The names below load torch on first use, not when the package is imported; ``FeedbackConfig``
needs none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spie_robo.feedback.config import FeedbackConfig

if TYPE_CHECKING:
    from spie_robo.feedback.feedback import FeedbackModel, build_feedback
    from spie_robo.feedback.ranking import rank
    from spie_robo.feedback.records import Feedback, FeedbackInput, Mask, Scores
    from spie_robo.feedback.regions import frame_region, photo_regions, visible_regions
    from spie_robo.feedback.surroundings import resolve_region

__all__ = [
    "Feedback",
    "FeedbackConfig",
    "FeedbackInput",
    "FeedbackModel",
    "Mask",
    "Scores",
    "build_feedback",
    "frame_region",
    "photo_regions",
    "rank",
    "resolve_region",
    "visible_regions",
]

_HOMES = {
    "Feedback": "records",
    "FeedbackInput": "records",
    "FeedbackModel": "feedback",
    "Mask": "records",
    "Scores": "records",
    "build_feedback": "feedback",
    "frame_region": "regions",
    "photo_regions": "regions",
    "rank": "ranking",
    "resolve_region": "surroundings",
    "visible_regions": "regions",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
