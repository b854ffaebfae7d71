"""The episode store: write, read, check, describe and convert it.

Names are loaded on first use, so that importing this package does not import zarr.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.data.conversion.convert import ConvertOptions, ConvertSummary, convert_store
    from spie_robo.data.protocols import EpisodeSink, EpisodeSource
    from spie_robo.data.record import RecordSummary, record_episodes
    from spie_robo.data.store.episode_store import EpisodeStore
    from spie_robo.data.store.info import StoreSummary, describe_store
    from spie_robo.data.store.metadata import CameraMetadata, StoreMetadata
    from spie_robo.data.store.verify import VerifyReport, verify_store
    from spie_robo.data.store.writer import EpisodeWriter

_HOMES = {
    "CameraMetadata": "store.metadata",
    "ConvertOptions": "conversion.convert",
    "ConvertSummary": "conversion.convert",
    "EpisodeSink": "protocols",
    "EpisodeSource": "protocols",
    "EpisodeStore": "store.episode_store",
    "EpisodeWriter": "store.writer",
    "RecordSummary": "record",
    "StoreMetadata": "store.metadata",
    "StoreSummary": "store.info",
    "VerifyReport": "store.verify",
    "convert_store": "conversion.convert",
    "describe_store": "store.info",
    "record_episodes": "record",
    "verify_store": "store.verify",
}

__all__ = [
    "CameraMetadata",
    "ConvertOptions",
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


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
