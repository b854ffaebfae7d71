"""Store our metadata inside a LeRobot data set, and find what others changed since.

LeRobot's own files win: the passenger only says what LeRobot has no place for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.lerobot.columns import NAME
from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.formats.source_record import SourceRecord, unpack, with_source
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

PASSENGER_FILE = "meta/spie_robo.json"


@dataclass(frozen=True)
class Passenger:
    """The content of ``meta/spie_robo.json``.

    Attributes:
        metadata: Metadata of the store that was written.
        seeds: Seeds of the present episodes, int64, (episodes,); -1 for new ones.
        arrays: Place of every key.
        made: Names of columns that no key of the store had.
        written: What LeRobot's own files said then; empty in those of an earlier release.
    """

    metadata: StoreMetadata
    seeds: NDArray[np.int64]
    arrays: tuple[ForeignArray, ...]
    made: tuple[str, ...]
    written: Mapping[str, Any]

    def tasks_changed(self, tasks: Sequence[str]) -> bool:
        """Return whether the instructions differ from those that were written."""
        if "tasks" in self.written:
            return list(self.written["tasks"]) != list(tasks)
        record = SourceRecord.of(self.metadata)
        return record is not None and tuple(tasks[: len(record.tasks)]) != record.tasks

    def refreshed(self, here: SourceRecord) -> StoreMetadata:
        """Return the metadata, with what LeRobot's own files say where that has changed.

        Args:
            here: What they say now.
        """
        before = SourceRecord.of(self.metadata) or SourceRecord(NAME)
        record = before
        if self.tasks_changed(here.tasks):
            record = replace(record, tasks=here.tasks)
        if self.written.get("fps") not in (None, here.fps):
            record = replace(record, fps=here.fps)
        if before.format == NAME:
            changed = {
                name: here.extras.get(name)
                for name in ("robot_type", "splits")
                if name in self.written and self.written[name] != here.extras.get(name)
            }
            features = self._features(before, here)
            record = replace(record, extras={**record.extras, **changed, **features})
        return self.metadata if record == before else with_source(self.metadata, record)

    def _features(self, before: SourceRecord, here: SourceRecord) -> dict[str, Any]:
        """Return the descriptions of features, if another tool has changed some."""
        now, then = here.extras.get("features", {}), self.written.get("features")
        if not isinstance(then, Mapping):
            return {}
        changed = {n: item for n, item in now.items() if _said(item) != then.get(n)}
        return {"features": {**before.extras.get("features", {}), **changed}} if changed else {}


def _said(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a feature without the mark that the reader itself adds."""
    return {name: value for name, value in item.items() if name != "is_depth_map"}


def read_passenger(root: Path, lengths: Sequence[int]) -> Passenger | None:
    """Read the metadata that is stored inside; None if there is none.

    Args:
        root: The data set.
        lengths: Steps of the episodes that are there now. LeRobot appends episodes at the end, so
            those before the first one of another length are the ones that were written.

    Raises:
        StoreError: If it is damaged.
    """
    file = root / PASSENGER_FILE
    if not file.is_file():
        return None
    size = limits.check_inside(root, file).stat().st_size
    limits.check_size(str(file), size, limits.MAX_HEADER_BYTES)
    try:
        document = json.loads(file.read_bytes())
        arrays = tuple(ForeignArray.from_json(item) for item in document["arrays"])
        written = document.get("written", {})
        made = tuple(str(name) for name in document.get("made", ()))
        if not isinstance(written, Mapping):
            raise TypeError(f"expected a mapping, got {type(written).__name__}")
        then = [int(length) for length in written.get("lengths", lengths)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{file}: it is damaged ({error!r}).") from error
    same = 0
    while same < min(len(then), len(lengths)) and then[same] == lengths[same]:
        same += 1
    numbers = [number if number < same else -1 for number in range(len(lengths))]
    travelled = unpack(document, len(lengths), str(file), numbers)
    assert travelled is not None
    return Passenger(*travelled, arrays, made, written)
