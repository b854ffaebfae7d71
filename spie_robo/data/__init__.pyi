from .conversion.convert import ConvertSummary, convert_store
from .conversion.identity import ConversionConfig
from .protocols import EpisodeSink, EpisodeSource
from .recording import RecordSummary, record_episodes
from .store.episode_store import EpisodeStore
from .store.info import StoreSummary, describe_store
from .store.metadata import CameraMetadata, StoreMetadata
from .store.verify import VerifyReport, verify_store
from .store.writer import EpisodeWriter

__all__ = [
    "CameraMetadata",
    "ConversionConfig",
    "ConvertSummary",
    "EpisodeSink",
    "EpisodeSource",
    "EpisodeStore",
    "EpisodeWriter",
    "RecordSummary",
    "StoreMetadata",
    "StoreSummary",
    "VerifyReport",
    "convert_store",
    "describe_store",
    "record_episodes",
    "verify_store",
]
