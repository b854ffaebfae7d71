from ._version import __version__
from .commands.convert import ConvertCommand, convert
from .commands.evaluate import evaluate
from .commands.record import RecordCommand, record
from .commands.report import ReportCommand, report
from .commands.train import TrainCommand, train
from .data import EpisodeStore, EpisodeWriter
from .editing.guarded_editor import GuardedEditor
from .editing.request import EditRequest
from .editor import Editor
from .evaluation.config import EvaluateConfig
from .guard import GeometryGuard, GuardBudget
from .types import EditResult, Frame, Geometry, GuardedEdit, GuardVerdict
from .wrappers import RealismWrapper, VectorRealismWrapper

__all__ = [
    "ConvertCommand",
    "EditRequest",
    "EditResult",
    "Editor",
    "EpisodeStore",
    "EpisodeWriter",
    "EvaluateConfig",
    "Frame",
    "Geometry",
    "GeometryGuard",
    "GuardBudget",
    "GuardVerdict",
    "GuardedEdit",
    "GuardedEditor",
    "RealismWrapper",
    "RecordCommand",
    "ReportCommand",
    "TrainCommand",
    "VectorRealismWrapper",
    "__version__",
    "convert",
    "evaluate",
    "record",
    "report",
    "train",
]
