from .config import FeedbackConfig
from .feedback import FeedbackModel, build_feedback
from .ranking import rank
from .records import Feedback, FeedbackInput, Mask, Scores
from .regions import frame_region, photo_regions, visible_regions
from .surroundings import resolve_region

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
