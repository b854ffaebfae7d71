"""Read a LeRobot v3 data set; :mod:`spie_robo.data.formats.lerobot.writer` writes one.

The layout is described in :mod:`spie_robo.data.formats.lerobot.layout`.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.lerobot.writer import NAME, PASSENGER_FILE
from spie_robo.data.formats.naming import ForeignArray, map_arrays
from spie_robo.data.formats.pictures import decode_picture
from spie_robo.data.formats.source_record import (
    TASK_KEY,
    SourceRecord,
    no_seeds,
    plain,
    unpack,
    with_source,
)
from spie_robo.data.formats.video import VideoReader
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreCorruptError, StoreError

_EXTRAS = ("robot_type", "splits", "codebase_version")


@final
class LeRobotSource(ForeignSource):
    """Reads a LeRobot v3 data set: numbers from parquet, frames from video or PNG."""

    def __init__(self, path: Path) -> None:
        """Open the data set at ``path``.

        Raises:
            StoreError: If it is damaged, asks for too much, or leads outside.
            MissingExtraError: If pyarrow or PyAV is not installed.
        """
        need("pyarrow"), need("av")
        info = layout.read_info(path)
        self._fps: float = info["fps"]
        self._data_path: str = info["data_path"]
        self._video_path = str(info.get("video_path") or layout.VIDEO_PATH)
        self._features: dict[str, dict[str, Any]] = info["features"]
        videos = [n for n, f in self._features.items() if f["dtype"] == "video"]
        self._places = layout.read_episodes(path, videos)
        self._root = path
        self._tables: dict[tuple[int, int], _Rows] = {}
        self._readers: dict[Path, VideoReader] = {}
        travelled, known = self._passenger(path)
        found, notes = self._arrays_found()
        if travelled is not None:
            told = {place.name: place for place in known}
            found = {n: a for n, a in found.items() if n in told or n not in layout.DEFAULTS}
            for name, (dtype, shape) in found.items():
                if name in told and math.prod(shape) == math.prod(told[name].shape) == 1:
                    found[name] = (dtype, told[name].shape)  # (1,) and () are one in LeRobot
            if TASK_KEY in told and TASK_KEY in found:  # int64 in LeRobot, whatever the store had
                shape = told[TASK_KEY].shape
                where = f"{path}: feature {TASK_KEY}"
                numbers = limits.check_array(where, (1, *shape), told[TASK_KEY].dtype)
                found[TASK_KEY] = (numbers, shape)
        arrays = map_arrays(
            found, known, layout.key_names(self._features), ours=travelled is not None
        )
        record = SourceRecord(
            NAME,
            arrays,
            layout.read_tasks(path),
            self._fps,
            notes,
            {name: plain(info.get(name)) for name in _EXTRAS}
            | {"features": _described(self._features)},
        )
        metadata, seeds = travelled or (
            with_source(StoreMetadata(), record),
            no_seeds(len(self._places)),
        )
        super().__init__(path, arrays, [p.length for p in self._places], metadata, seeds)

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        place = self._places[episode]
        if self._features[array.name]["dtype"] == "video":
            chunk, file, seconds = place.videos[array.name]
            first = round(seconds * self._fps)
            return self._video(array.name, chunk, file).read(first + start, first + stop)
        rows = self._table(place.file).read(array.name, place.start + start, place.start + stop)
        if self._features[array.name]["dtype"] == "image":
            return np.stack([_picture(f"{self._root}: {array.name}", row) for row in rows])
        values = np.array(rows, np.dtype(array.dtype))
        return values.reshape(stop - start, *array.shape)

    def close(self) -> None:
        """Close the videos."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def _video(self, name: str, chunk: int, file: int) -> VideoReader:
        path = layout.file_at(self._root, self._video_path, chunk, file, name)
        if path not in self._readers:
            self._readers[path] = VideoReader(path, self._fps)
        return self._readers[path]

    def _table(self, file: tuple[int, int]) -> _Rows:
        if file not in self._tables:
            first = min(place.start for place in self._places if place.file == file)
            path = layout.file_at(self._root, self._data_path, *file)
            self._tables = {file: _Rows(self._root, path, first)}  # one file open is enough
        return self._tables[file]

    def _arrays_found(
        self,
    ) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], tuple[str, ...]]:
        found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        notes = []
        for name, item in self._features.items():
            if name in layout.DERIVED:
                continue
            where = f"{self._root}: feature {name}"
            if item["dtype"] in ("video", "image"):
                found[name] = (np.dtype(np.uint8), self._picture_shape(name, item))
            elif item["dtype"] == "string":
                notes.append(f"{name} was not kept: a store holds numbers, not texts.")
            else:
                shape = () if item["shape"] == (1,) else item["shape"]
                found[name] = (limits.check_array(where, (1, *shape), item["dtype"]), shape)
        return found, tuple(notes)

    def _picture_shape(self, name: str, item: Mapping[str, Any]) -> tuple[int, ...]:
        if item["dtype"] == "video" and self._places:
            chunk, file, _ = self._places[0].videos[name]
            return (*self._video(name, chunk, file).size, 3)
        shape = tuple(item["shape"])
        if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
            shape = (*shape[1:], 3)
        limits.check_array(f"{self._root}: feature {name}", (1, *shape), np.uint8)
        return shape

    def _passenger(self, path: Path) -> tuple[Any, tuple[ForeignArray, ...]]:
        file = path / PASSENGER_FILE
        if not file.is_file():
            return None, ()
        limits.check_size(
            str(file), limits.check_inside(path, file).stat().st_size, limits.MAX_HEADER_BYTES
        )
        try:
            document = json.loads(file.read_bytes())
            known = tuple(ForeignArray.from_json(item) for item in document["arrays"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{file}: it is damaged ({error!r}).") from error
        return unpack(document, len(self._places), str(file)), known


def _described(features: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a store has no place for: names of an array's numbers, and which videos show depth."""
    kept = {
        name: {key: plain(item[key]) for key in ("names", "is_depth_map") if item[key]}
        for name, item in features.items()
    }
    return {name: item for name, item in kept.items() if item}


@final
class _Rows:
    """Rows of one parquet file by their number over all episodes.

    Of each column the last stretch of row groups is kept: episodes are read a few steps at a time,
    one column after the other.
    """

    def __init__(self, root: Path, path: Path, first: int) -> None:
        self._file = layout.open_parquet(root, path)
        self._path, self._first = path, first
        groups = self._file.metadata
        sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
        self._held: dict[str, tuple[int, int, Any]] = {}

    def read(self, name: str, start: int, stop: int) -> Any:
        """Rows of a column: an array, or for pictures a list."""
        low, high = start - self._first, stop - self._first
        if not 0 <= low <= high <= self._starts[-1]:
            raise StoreCorruptError(f"{self._path}: it lacks rows {start} to {stop - 1}.")
        begin, end, column = self._held.get(name, (0, 0, None))
        if column is None or low < begin or high > end:
            begin, end, column = self._held[name] = self._load(name, low, high)
        return column[low - begin : high - begin]

    def _load(self, name: str, low: int, high: int) -> tuple[int, int, Any]:
        """The stretch of groups that holds some rows: where it begins and ends, and its column."""
        arrow = need("pyarrow")
        first = bisect.bisect_right(self._starts, low) - 1
        last = max(first + 1, bisect.bisect_left(self._starts, high))
        try:
            table = self._file.read_row_groups(list(range(first, last)), columns=[name])
            column = _values(table.column(name).combine_chunks())
        except (arrow.ArrowException, OSError, KeyError, ValueError) as error:
            raise StoreCorruptError(f"{self._path}: {name} cannot be decoded ({error}).") from error
        return self._starts[first], self._starts[last], column


def _values(column: Any) -> Any:
    """A column as an array (rows, ...); pictures and lists of several depths as a list."""
    arrow = need("pyarrow")
    if isinstance(column, arrow.ChunkedArray):
        column = arrow.concat_arrays(column.chunks)
    if isinstance(column, arrow.ExtensionArray):
        column = column.storage
    rows, shape = len(column), []
    flat = column
    while arrow.types.is_list(flat.type) or arrow.types.is_fixed_size_list(flat.type):
        flat = flat.flatten()
        shape.append(-1)
    if arrow.types.is_struct(flat.type):
        return column.to_pylist()
    if flat.null_count:
        raise ValueError("numbers are missing")
    values = flat.to_numpy(zero_copy_only=False)
    return values.reshape(rows, -1) if shape else values


def _picture(where: str, row: Any) -> NDArray[np.uint8]:
    """A PNG or JPEG out of a column.

    Raises:
        StoreError: If it is none, or too large.
    """
    data = row.get("bytes") if isinstance(row, Mapping) else None
    if not isinstance(data, bytes):
        raise StoreError(f"{where}: expected pictures inside the parquet file, got {type(data)}.")
    return decode_picture(where, data)
