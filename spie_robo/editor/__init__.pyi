from .editor import Editor
from .guidance import Guidance
from .pipeline import SpiePipeline
from .settings import EditorSettings

__all__ = [
    "Editor",
    "EditorSettings",
    "Guidance",
    "SpiePipeline",
]
