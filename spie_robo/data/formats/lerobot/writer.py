"""Write a LeRobot v3 data set: numbers to parquet, frames to video, statistics beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.extras import need
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.formats.source_record import TASK_KEY, SourceRecord, arrays_for, pack, tasks_of
from spie_robo.data.formats.video import CAUSE, VideoWriter
from spie_robo.data.formats.written import Written
from spie_robo.data.protocols import EpisodeSource
from spie_robo.errors import StoreError

NAME = "lerobot"
PASSENGER_FILE = "meta/spie_robo.json"

_DEFAULT_FPS = 10
_BLOCK_ROWS = 64
_STATISTICS_FRAMES = 16
_TOLERANCE_S = 1e-4
_RECORDED_TIME = "recorded_timestamp"


def write_lerobot(source: EpisodeSource, out: Path, fps: float | None = None) -> Written:
    """Write episodes as a LeRobot v3 data set.

    Frames become H.264 video, which is lossy; everything else is kept bit by bit. LeRobot finds a
    frame by ``timestamp``, so that column counts in steps of 1 / fps; other timestamps are kept
    beside it as ``recorded_timestamp``.

    Args:
        source: Episodes to write.
        out: Folder to make.
        fps: Steps a second, where the episodes do not tell.

    Raises:
        StoreError: If a step has several tasks.
        MissingExtraError: If pyarrow or PyAV is not installed.
        OSError: If the disk refuses.
    """
    rate, notes = _rate(source, fps)
    writer = _Writer(source, out, rate)
    for episode in range(len(source)):
        writer.add(episode)
    writer.finish()
    lossy = {key: CAUSE for key in writer.video_keys}
    return Written(lossy, {}, notes)


@final
class _Writer:
    """The open files of one data set."""

    def __init__(self, source: EpisodeSource, out: Path, fps: int) -> None:
        need("pyarrow"), need("av")
        self._source, self._out, self._fps = source, out, fps
        self._places = _places(source, fps)
        self.video_keys = tuple(k for k, p in self._places.items() if p.kind == "camera")
        self._tasks = _task_names(source)
        self._rows = _RollingParquet(out)
        self._videos = {key: _RollingVideo(out, self._places[key], fps) for key in self.video_keys}
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[dict[str, dict[str, list[Any]]]] = []
        self._start = 0

    def add(self, episode: int) -> None:
        """Write one episode."""
        length = self._source.episode_length(episode)
        columns, samples = self._stream(episode, length)
        steps = np.arange(length)
        numbers = columns.get(TASK_KEY, np.zeros(length)).astype(np.int64).reshape(length)
        columns |= {
            "timestamp": columns.get("timestamp", (steps / self._fps).astype(np.float32)),
            "frame_index": steps,
            "episode_index": np.full(length, episode),
            "index": self._start + steps,
            "task_index": numbers,
        }
        chunk, file = self._rows.add(columns)
        found = {n: layout.statistics(v, False) for n, v in columns.items() if v.ndim <= 2}
        found |= {n: layout.statistics(v, True) for n, v in samples.items()}
        self._statistics.append(found)
        about: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [self._tasks[n] for n in dict.fromkeys(numbers.tolist())],
            "length": length,
            "dataset_from_index": self._start,
            "dataset_to_index": self._start + length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for video in self._videos.values():
            about |= video.end_episode()
        about |= {f"stats/{n}/{s}": v for n, of in found.items() for s, v in of.items()}
        self._episodes.append(about)
        self._start += length

    def _stream(
        self, episode: int, length: int
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Send frames to the videos; give back the other columns, and a sample of the frames."""
        parts: dict[str, list[NDArray[Any]]] = {}
        samples: dict[str, list[NDArray[Any]]] = {}
        chosen = set(np.linspace(0, length - 1, _STATISTICS_FRAMES).astype(int).tolist())
        for start in range(0, length, _BLOCK_ROWS):
            stop = min(length, start + _BLOCK_ROWS)
            for key, rows in self._source.read_rows(episode, start, stop).items():
                place = self._places[key]
                if key in self._videos:
                    self._videos[key].add(rows)
                    picked = [t - start for t in range(start, stop) if t in chosen]
                    samples.setdefault(place.name, []).append(rows[picked, ::2, ::2])
                else:
                    parts.setdefault(place.name, []).append(rows)
        return (
            {name: np.concatenate(blocks) for name, blocks in parts.items()},
            {name: np.concatenate(blocks) for name, blocks in samples.items()},
        )

    def finish(self) -> None:
        """Close the files and write ``meta/``."""
        arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
        self._rows.close()
        for video in self._videos.values():
            video.close()
        file = self._out / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
        file.parent.mkdir(parents=True)
        parquet.write_table(arrow.Table.from_pylist(self._episodes), file)
        parquet.write_table(layout.tasks_table(self._tasks), self._out / "meta/tasks.parquet")
        _write_json(self._out / "meta/info.json", self._info())
        totals = {
            name: layout.aggregate([of[name] for of in self._statistics])
            for name in self._statistics[0]
        }
        _write_json(self._out / "meta/stats.json", totals)
        arrays = [place.to_json() for place in self._places.values()]
        _write_json(self._out / PASSENGER_FILE, {**pack(self._source), "arrays": arrays})

    def _info(self) -> dict[str, Any]:
        record = SourceRecord.of(self._source.metadata)
        extras = record.extras if record is not None and record.format == NAME else {}
        told = extras.get("features", {})
        features = {
            place.name: self._feature(key, told.get(place.name, {}))
            for key, place in self._places.items()
        }
        features |= {n: layout.feature(d, ()) for n, d in layout.DEFAULTS.items()}
        return {
            "codebase_version": layout.VERSION,
            "robot_type": extras.get("robot_type"),
            "total_episodes": len(self._source),
            "total_frames": self._start,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_FILE_MB,
            "video_files_size_in_mb": layout.VIDEO_FILE_MB,
            "fps": self._fps,
            "splits": layout.splits(extras.get("splits"), len(self._source)),
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._videos else None,
            "features": features,
        }

    def _feature(self, key: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """The description of a key, with what the source said of it."""
        if key not in self._videos:
            place = self._places[key]
            return {**layout.feature(place.dtype, place.shape), "names": told.get("names")}
        described = self._videos[key].feature()
        described["info"]["video.is_depth_map"] = bool(told.get("is_depth_map"))
        return described


@final
class _RollingParquet:
    """Parquet files of about 100 MB, one row group an episode."""

    def __init__(self, out: Path) -> None:
        self._out, self._number, self._bytes = out, 0, 0
        self._writer: Any = None

    def add(self, columns: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        """Write an episode; (chunk, file) of where it went."""
        arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
        table = arrow.table({name: _column(rows) for name, rows in columns.items()})
        place = divmod(self._number, layout.CHUNK_FILES)
        if self._writer is None:
            chunk, number = place
            file = self._out / layout.DATA_PATH.format(chunk_index=chunk, file_index=number)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(file, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._bytes += table.nbytes
        if self._bytes >= layout.DATA_FILE_MB * 2**20:
            self.close()
            self._number += 1
        return place

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0


@final
class _RollingVideo:
    """Videos of one camera of about 200 MB, episodes one after another."""

    def __init__(self, out: Path, place: ForeignArray, fps: int) -> None:
        self._out, self._place, self._fps = out, place, fps
        self._number = self._start = 0
        self._writer: VideoWriter | None = None
        self._pixel_format = ""

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Encode frames of the episode that is under way."""
        if self._writer is None:
            self._path().parent.mkdir(parents=True, exist_ok=True)
            self._writer = VideoWriter(self._path(), self._fps, *self._place.shape[:2])
            self._pixel_format, self._start = self._writer.pixel_format, 0
        self._writer.add(frames)

    def end_episode(self) -> dict[str, Any]:
        """Where the episode went, as columns of ``meta/episodes``."""
        assert self._writer is not None
        prefix = f"videos/{self._place.name}/"
        chunk, file = divmod(self._number, layout.CHUNK_FILES)
        place = {
            f"{prefix}chunk_index": chunk,
            f"{prefix}file_index": file,
            f"{prefix}from_timestamp": self._start / self._fps,
            f"{prefix}to_timestamp": self._writer.frames / self._fps,
        }
        self._start = self._writer.frames
        path = self._path()  # which is not there before the encoder has given its first packet
        if path.exists() and path.stat().st_size >= layout.VIDEO_FILE_MB * 2**20:
            self.close()
            self._number += 1
        return place

    def close(self) -> None:
        """Finish the video that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def feature(self) -> dict[str, Any]:
        """Its description in ``meta/info.json``."""
        height, width = self._place.shape[:2]
        return layout.video_feature(height, width, self._fps, self._pixel_format)

    def _path(self) -> Path:
        chunk, file = divmod(self._number, layout.CHUNK_FILES)
        name = self._place.name
        return self._out / layout.VIDEO_PATH.format(
            video_key=name, chunk_index=chunk, file_index=file
        )


def _places(source: EpisodeSource, fps: int) -> dict[str, ForeignArray]:
    """Name, type and shape of every key in the data set."""
    known = arrays_for(source, NAME)
    places = {}
    for key, rows in source.read_rows(0, 0, 1).items():
        shape, dtype = rows.shape[1:], rows.dtype.name
        image = dtype == "uint8" and len(shape) == 3 and shape[2] == 3
        if key == "timestamp" and not _counts_steps(source, fps):
            name = _RECORDED_TIME
        elif key in known and known[key].name not in (_RECORDED_TIME, *layout.DERIVED):
            name = known[key].name
        else:
            name = layout.foreign_name(key, image)
            name = f"recorded_{name}" if name in layout.DERIVED else name
        places[key] = ForeignArray(key, name, dtype, shape, "camera" if image else "other")
    return places


def _counts_steps(source: EpisodeSource, fps: int) -> bool:
    """Whether ``timestamp`` is what LeRobot expects: float32, step / fps in every episode."""
    for episode in range(len(source)):
        length = source.episode_length(episode)
        times = source.read_rows(episode, 0, length, ["timestamp"])["timestamp"]
        if times.dtype != np.float32 or times.ndim != 1:
            return False
        if (np.abs(times - np.arange(length) / fps) > _TOLERANCE_S / 2).any():
            return False
    return True


def _rate(source: EpisodeSource, fps: float | None) -> tuple[int, tuple[str, ...]]:
    """Steps a second: told by the source, by the user, by the timestamps, or assumed."""
    record = SourceRecord.of(source.metadata)
    if record is not None and record.fps:
        fps = record.fps
    elif fps is None and "timestamp" in source.keys:
        times = source.read_rows(0, 0, source.episode_length(0), ["timestamp"])["timestamp"]
        step = float(np.median(np.diff(times.astype(np.float64).ravel()))) if len(times) > 1 else 0
        fps = 1 / step if step > 0 else None
    if fps is None:
        fps = source.metadata.env_spec.get("steps_per_second")
    if fps is None:
        note = f"the episodes do not say how fast they are: {_DEFAULT_FPS} steps a second assumed"
        return _DEFAULT_FPS, (f"{note} (--fps)",)
    whole = max(1, round(fps))
    if abs(whole - fps) > 1e-6 * fps:
        return whole, (f"{fps:.4g} steps a second became {whole}: LeRobot wants a whole number",)
    return whole, ()


def _task_names(source: EpisodeSource) -> list[str]:
    """The texts that ``task_index`` points into, one at least."""
    tasks = list(tasks_of(source))
    last = 0
    if TASK_KEY in source.keys:
        for episode in range(len(source)):
            length = source.episode_length(episode)
            rows = source.read_rows(episode, 0, length, [TASK_KEY])[TASK_KEY]
            if rows.size != length:
                raise StoreError(
                    f"{TASK_KEY}: expected one number a step, got shape {rows.shape}. LeRobot has "
                    "one task a step: keep the others under another key."
                )
            last = max(last, int(rows.max()))
    named = [source.metadata.env_id] if source.metadata.env_id and not tasks else tasks
    return named + [f"task {number}" for number in range(len(named), last + 1)]


def _column(rows: NDArray[Any]) -> Any:
    """Rows as a column: numbers, lists of a fixed length, or lists in lists."""
    arrow = need("pyarrow")
    if rows.ndim == 1 or rows.shape[1:] == (1,):
        return arrow.array(rows.reshape(-1))
    values = arrow.array(np.ascontiguousarray(rows).reshape(-1))
    if rows.ndim == 2:
        return arrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
    for size, count in zip(rows.shape[:0:-1], np.cumprod(rows.shape)[-2::-1], strict=True):
        offsets = np.arange(0, (count + 1) * size, size, dtype=np.int32)
        values = arrow.ListArray.from_arrays(offsets, values)
    return values


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=4, ensure_ascii=False))
