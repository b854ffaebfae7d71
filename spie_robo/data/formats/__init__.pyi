from .detect import detect_format
from .export import ExportReport, Loss, export_episodes
from .registry import FORMATS, Format, open_source

__all__ = [
    "FORMATS",
    "ExportReport",
    "Format",
    "Loss",
    "detect_format",
    "export_episodes",
    "open_source",
]
