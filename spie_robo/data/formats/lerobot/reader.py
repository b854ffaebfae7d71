"""Read a LeRobot v3 data set; :mod:`spie_robo.data.formats.lerobot.writer` writes one.

The layout is described in :mod:`spie_robo.data.formats.lerobot.layout`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.lerobot.columns import NAME
from spie_robo.data.formats.lerobot.depth_codes import DepthCodes, from_picture
from spie_robo.data.formats.lerobot.passenger import Passenger, read_passenger
from spie_robo.data.formats.naming import ForeignArray, Kind, map_arrays
from spie_robo.data.formats.pictures import decode_depth, decode_picture
from spie_robo.data.formats.source_record import (
    DEPTH_RANGE,
    TASK_KEY,
    SourceRecord,
    no_seeds,
    plain,
    with_source,
)
from spie_robo.data.formats.video import VideoReader
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreCorruptError, StoreError

_EXTRAS = ("robot_type", "splits", "codebase_version")
_TEXTS = ("string", "language", "large_string")

Shape = tuple[np.dtype[Any], tuple[int, ...]]
"""Type and row shape of an array."""


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
        self._codes: dict[str, DepthCodes] = {}
        passenger = read_passenger(path, [place.length for place in self._places])
        tasks = layout.read_tasks(path)
        found, kinds, notes = self._arrays_found()
        if passenger is not None:
            found = self._as_declared(found, passenger, tasks)
        known = () if passenger is None else passenger.arrays
        arrays = map_arrays(
            found,
            known,
            layout.key_names(self._features),
            ours=passenger is not None,
            kinds=kinds,
        )
        record = self._describe(info, arrays, tasks, notes)
        if passenger is None:
            metadata, seeds = with_source(StoreMetadata(), record), no_seeds(len(self._places))
        else:
            metadata, seeds = passenger.refreshed(record), passenger.seeds
        super().__init__(path, arrays, [p.length for p in self._places], metadata, seeds)

    def _describe(
        self,
        info: Mapping[str, Any],
        arrays: tuple[ForeignArray, ...],
        tasks: tuple[str, ...],
        notes: tuple[str, ...],
    ) -> SourceRecord:
        """Return the record of what LeRobot's own files say."""
        pictures = {a.name for a in arrays if a.kind == "camera"}
        extras: dict[str, Any] = {name: plain(info.get(name)) for name in _EXTRAS}
        extras["features"] = {
            name: plain(item["declared"])
            | ({"is_depth_map": True} if item["is_depth_map"] and name in pictures else {})
            for name, item in self._features.items()
        }
        keys = {array.name: array.key for array in arrays}
        ranges = {
            keys[name]: [codes.minimum, codes.maximum]
            for name, codes in self._codes.items()
            if name in keys
        }
        if ranges:
            extras[DEPTH_RANGE] = ranges
        said = tuple(
            f"{key} holds 12-bit codes from {low:g} to {high:g} m: what is at either end may be no "
            "reading, or farther, and no edit is judged by it."
            for key, (low, high) in ranges.items()
        )
        return SourceRecord(NAME, arrays, tasks, self._fps, (*notes, *said), extras)

    def _as_declared(
        self, found: dict[str, Shape], passenger: Passenger, tasks: Sequence[str]
    ) -> dict[str, Shape]:
        """Return the arrays that this package wrote, as the store had them."""
        declared = {place.name: place for place in passenger.arrays}
        made = set(passenger.made) | set(layout.DEFAULTS)
        if passenger.tasks_changed(tasks):
            made.discard(TASK_KEY)
        found = {n: a for n, a in found.items() if n in declared or n not in made}
        for name, (dtype, shape) in found.items():
            if name in declared and math.prod(shape) == math.prod(declared[name].shape) == 1:
                found[name] = (dtype, declared[name].shape)  # (1,) and () are one in LeRobot
        if TASK_KEY in declared and TASK_KEY in found:  # int64 in LeRobot, whatever the store had
            shape = declared[TASK_KEY].shape
            where = f"{self._root}: feature {TASK_KEY}"
            numbers = limits.check_array(where, (1, *shape), declared[TASK_KEY].dtype)
            found[TASK_KEY] = (numbers, shape)
        return found

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        place, item = self._places[episode], self._features[array.name]
        first, last = place.start + start, place.start + stop
        table = self._table(place.file)
        if item["dtype"] == "video":
            chunk, file, seconds = place.videos[array.name]
            times = seconds + self._times(table, first, last, start, stop)
            frames = self._video(array.name, chunk, file).read(times)
            codes = self._codes.get(array.name)
            return frames if codes is None else codes.to_metres(frames)
        rows = table.read(array.name, first, last)
        if item["dtype"] == "image":
            where = f"{self._root}: {array.name}"
            return np.stack([self._picture(where, item, row) for row in rows])
        values = np.array(rows, np.dtype(array.dtype))
        return values.reshape(stop - start, *array.shape)

    def _times(
        self, table: _Rows, first: int, last: int, start: int, stop: int
    ) -> NDArray[np.float64]:
        """Return the times of rows in seconds from the beginning of their episode in its videos."""
        if "timestamp" not in self._features:
            return np.arange(start, stop) / self._fps
        return np.asarray(table.read("timestamp", first, last), np.float64).reshape(-1)

    def _picture(self, where: str, item: Mapping[str, Any], row: Any) -> NDArray[Any]:
        data = row.get("bytes") if isinstance(row, Mapping) else None
        if not isinstance(data, bytes):
            raise StoreError(
                f"{where}: expected pictures inside the parquet file, got {type(data)}."
            )
        if item["is_depth_map"]:
            return from_picture(decode_depth(where, data), item["info"].get("depth_unit"))
        return decode_picture(where, data)

    def declared_faults(self) -> Iterator[str]:
        """Yield counts, rows and files that do not belong to the episodes."""
        declared = layout.read_info(self._root)
        counts = {
            "total_episodes": len(self),
            "total_frames": self.n_steps,
            "total_tasks": len(layout.read_tasks(self._root)),
        }
        for name, there in counts.items():
            if name in declared and declared[name] != there:
                yield f"meta/info.json declares {name} {declared[name]}, there are {there}"
        yield from self._orphaned_rows()
        yield from self._orphaned_files()

    def _orphaned_rows(self) -> Iterator[str]:
        """Yield rows of the parquet files that no episode covers, and rows of another episode."""
        for file in sorted({place.file for place in self._places}):
            places = [(i, p) for i, p in enumerate(self._places) if p.file == file]
            table = self._table(file)
            rows, claimed = table.count, sum(place.length for _, place in places)
            name = layout.file_at(self._root, self._data_path, *file).name
            if rows != claimed:
                yield (
                    f"data/.../{name} has {rows} rows, its episodes claim {claimed}: "
                    f"{abs(rows - claimed)} are {'of no episode' if rows > claimed else 'missing'}"
                )
                continue
            if "episode_index" not in self._features:
                continue
            for episode, place in places:
                found = table.read("episode_index", place.start, place.start + place.length)
                if (np.asarray(found).reshape(-1) != episode).any():
                    yield f"rows of episode {episode} in {name} say another episode_index"

    def _orphaned_files(self) -> Iterator[str]:
        """Yield files of rows and videos that no episode refers to."""
        used = {
            layout.file_at(self._root, self._data_path, *place.file) for place in self._places
        } | {
            layout.file_at(self._root, self._video_path, chunk, file, name)
            for place in self._places
            for name, (chunk, file, _) in place.videos.items()
        }
        for pattern in ("data/**/*.parquet", "videos/**/*.mp4"):
            for file in sorted(self._root.glob(pattern)):
                if limits.check_inside(self._root, file) not in used:
                    yield f"{file.relative_to(self._root)} belongs to no episode"

    def close(self) -> None:
        """Close the videos."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def _video(self, name: str, chunk: int, file: int) -> VideoReader:
        path = layout.file_at(self._root, self._video_path, chunk, file, name)
        if path not in self._readers:
            self._readers[path] = VideoReader(path)
        return self._readers[path]

    def _table(self, file: tuple[int, int]) -> _Rows:
        if file not in self._tables:
            first = min(place.start for place in self._places if place.file == file)
            path = layout.file_at(self._root, self._data_path, *file)
            self._tables = {file: _Rows(self._root, path, first)}  # one file open is enough
        return self._tables[file]

    def _arrays_found(self) -> tuple[dict[str, Shape], dict[str, Kind], tuple[str, ...]]:
        """Return type and row shape of every feature that is read, what some show, and notes."""
        found: dict[str, Shape] = {}
        kinds: dict[str, Kind] = {}
        notes = []
        for name, item in self._features.items():
            if name in layout.DERIVED:
                continue
            where = f"{self._root}: feature {name}"
            if item["dtype"] in ("video", "image"):
                found[name] = self._shown(name, item)
                if len(found[name][1]) == 2:
                    kinds[name] = "depth"
            elif item["dtype"] in _TEXTS:
                notes.append(f"{name} was not kept: a store holds numbers, not texts.")
            else:
                shape = () if item["shape"] == (1,) else item["shape"]
                found[name] = (limits.check_array(where, (1, *shape), item["dtype"]), shape)
        return found, kinds, tuple(notes)

    def _shown(self, name: str, item: Mapping[str, Any]) -> Shape:
        """Return type and shape of the frames of a video or of pictures, as a store has them."""
        where = f"{self._root}: feature {name}"
        if item["dtype"] == "video" and self._places:
            chunk, file, _ = self._places[0].videos[name]
            video = self._video(name, chunk, file)
            if not video.grey:
                return np.dtype(np.uint8), video.shape
            if not item["is_depth_map"]:
                raise StoreError(
                    f"{where}: its video holds numbers of more than 8 bits, and info does not say "
                    "that it is_depth_map. Set that in meta/info.json, or remove the feature."
                )
            self._codes[name] = DepthCodes.of(item["info"], where)
            return np.dtype(np.float32), video.shape
        if item["dtype"] == "image" and item["is_depth_map"] and self._places:
            place = self._places[0]
            rows = self._table(place.file).read(name, place.start, place.start + 1)
            depth = self._picture(where, item, rows[0])
            return depth.dtype, depth.shape
        shape = tuple(item["shape"])
        if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
            shape = (*shape[1:], 3)
        limits.check_array(where, (1, *shape), np.uint8)
        return np.dtype(np.uint8), shape


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

    @property
    def count(self) -> int:
        """Rows of the file."""
        return int(self._starts[-1])

    def read(self, name: str, start: int, stop: int) -> Any:
        """Read rows of a column: an array, or for pictures a list."""
        low, high = start - self._first, stop - self._first
        if not 0 <= low <= high <= self._starts[-1]:
            raise StoreCorruptError(f"{self._path}: it lacks rows {start} to {stop - 1}.")
        begin, end, column = self._held.get(name, (0, 0, None))
        if column is None or low < begin or high > end:
            begin, end, column = self._held[name] = self._load(name, low, high)
        return column[low - begin : high - begin]

    def _load(self, name: str, low: int, high: int) -> tuple[int, int, Any]:
        """Return the groups that hold some rows: where they begin and end, and their column."""
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
    """Return a column as an array (rows, ...); pictures and lists of several depths as a list."""
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
