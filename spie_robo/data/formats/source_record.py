"""Keep what a data set says beside its arrays through every format.

A store keeps a :class:`SourceRecord` in ``metadata.provenance["source"]``: where the episodes were
read, and all that has no array. Data sets written by this package carry the whole metadata along,
so that a round trip gives back the same store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

PASSENGER = "spie_robo"
"""Name under which the metadata travels inside a foreign data set."""

DEPTH_RANGE = "depth_range"
"""Name in ``SourceRecord.extras``: [least, most] metres that a depth array can hold, by key."""

LOSSY = "lossy"
"""Name in ``SourceRecord.extras``: why an array was not exact where it was read, by key."""

TASK_KEY = "task_index"
"""Key of the number of each step's task, its place in ``SourceRecord.tasks``."""


@dataclass(frozen=True)
class SourceRecord:
    """The origin of the episodes of a store, and all that has no array.

    Attributes:
        format: Name of the format, see ``registry.FORMATS``.
        arrays: Name, type and shape of each array in the file.
        tasks: Language instructions; ``task_index`` points into them.
        fps: Steps a second; None if unknown.
        notes: What was not read, and why, for people.
        extras: Anything else that the format keeps, JSON-like.
    """

    format: str
    arrays: tuple[ForeignArray, ...] = ()
    tasks: tuple[str, ...] = ()
    fps: float | None = None
    notes: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "format": self.format,
            "arrays": [array.to_json() for array in self.arrays],
            "tasks": list(self.tasks),
            "fps": self.fps,
            "notes": list(self.notes),
            "extras": dict(self.extras),
        }

    @staticmethod
    def of(metadata: StoreMetadata) -> SourceRecord | None:
        """Return the record that a store carries; None for one that was recorded here.

        Raises:
            StoreError: If it is something else.
        """
        found = metadata.provenance.get("source")
        if found is None:
            return None
        try:
            return SourceRecord(
                str(found["format"]),
                tuple(ForeignArray.from_json(array) for array in found["arrays"]),
                tuple(str(task) for task in found["tasks"]),
                None if found["fps"] is None else float(found["fps"]),
                tuple(str(note) for note in found["notes"]),
                dict(found["extras"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"The source record of a data set is damaged: {error!r}.") from error


def with_source(metadata: StoreMetadata, record: SourceRecord) -> StoreMetadata:
    """Return metadata that carries ``record``."""
    return replace(metadata, provenance={**metadata.provenance, "source": record.to_json()})


def with_tasks(metadata: StoreMetadata, name: str, tasks: Sequence[str] | None) -> StoreMetadata:
    """Return metadata with a file's instructions, where it has changed them.

    Args:
        metadata: What travelled along.
        name: Name of the format.
        tasks: What the file says now; None if it says what was written.
    """
    if tasks is None:
        return metadata
    record = SourceRecord.of(metadata) or SourceRecord(name)
    return with_source(metadata, replace(record, tasks=tuple(tasks)))


def arrays_for(source: EpisodeSource, name: str) -> dict[str, ForeignArray]:
    """Return the places of the arrays of ``source`` in a file of the format ``name``, by key."""
    record = SourceRecord.of(source.metadata)
    known = () if record is None or record.format != name else record.arrays
    return {array.key: array for array in known if array.key in source.keys}


def tasks_of(source: EpisodeSource) -> tuple[str, ...]:
    """Return language instructions of ``source``, in the order that ``task_index`` counts."""
    record = SourceRecord.of(source.metadata)
    return () if record is None else record.tasks


def pack(source: EpisodeSource) -> dict[str, Any]:
    """Return what is stored with the episodes of ``source``, as plain JSON values."""
    return {
        "schema_version": 1,
        "metadata": source.metadata.to_json(),
        "seeds": [int(seed) for seed in source.seeds],
        "lengths": [source.episode_length(i) for i in range(len(source))],
    }


def unpack(
    passenger: object, episodes: int, where: str, numbers: Sequence[int] | None = None
) -> tuple[StoreMetadata, NDArray[np.int64]] | None:
    """Read back what :func:`pack` gave; None if nothing travelled along.

    Args:
        passenger: What was found in the file.
        episodes: Episodes that are in it now.
        where: Names the file.
        numbers: Which episode each of them was when it was written, -1 for one that was added; None
            where the format does not say.

    Raises:
        StoreError: If it is damaged.
    """
    if passenger is None:
        return None
    try:
        if not isinstance(passenger, Mapping):
            raise TypeError(f"expected a mapping, got {type(passenger).__name__}")
        metadata = StoreMetadata.from_json(passenger["metadata"])
        seeds = np.array(passenger["seeds"], np.int64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{where}: the metadata of spie_robo in it is damaged.") from error
    if numbers is not None and seeds.ndim == 1:
        times = Counter(numbers)
        alone = [times[n] == 1 and 0 <= n < len(seeds) for n in numbers]
        seeds = np.array([seeds[n] if a else -1 for n, a in zip(numbers, alone, strict=True)])
    if seeds.shape != (episodes,):
        seeds = np.full(episodes, -1, np.int64)  # episodes were added or removed by another tool
    return metadata, seeds


def no_seeds(episodes: int) -> NDArray[np.int64]:
    """Return the seeds of episodes that have none: -1 each."""
    return np.full(episodes, -1, np.int64)


def plain(value: Any, limit: int = 1_000_000) -> Any:
    """Return a value of a foreign file as plain JSON, texts and lists cut at ``limit`` in all.

    Raises:
        StoreError: If it is larger than that.
    """
    if isinstance(value, np.ndarray):
        if value.size > limit:
            raise StoreError(f"An attribute of {value.size} values is too large to keep.")
        return plain(value.tolist(), limit)
    if isinstance(value, np.generic):
        return plain(value.item(), limit)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): plain(item, limit) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item, limit) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
