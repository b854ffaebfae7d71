"""Write a LeRobot v3 data set: numbers to parquet, frames to video, statistics beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.actions import joined, joined_names
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.lerobot.columns import (
    NAME,
    columns_of,
    joined_action,
    state_parts,
)
from spie_robo.data.formats.lerobot.passenger import PASSENGER_FILE
from spie_robo.data.formats.lerobot.rolling import RollingParquet, RollingVideo, encoded_pictures
from spie_robo.data.formats.source_record import TASK_KEY, SourceRecord, pack, tasks_of
from spie_robo.data.formats.written import Written
from spie_robo.data.look_provenance import provenance_of
from spie_robo.data.protocols import EpisodeSource
from spie_robo.errors import StoreError

PROVENANCE_FILE = "meta/provenance.json"
"""For people and for cards of data sets: which episode is synthetic, and whose copy it is."""

_DEFAULT_FPS = 10
_BLOCK_ROWS = 64
_STATISTICS_FRAMES = 16


def write_lerobot(source: EpisodeSource, out: Path, fps: float | None = None) -> Written:
    """Write episodes as a LeRobot v3 data set.

    Frames of cameras become video, which is lossy, unless a LeRobot source had them as pictures;
    everything else is kept bit by bit. LeRobot finds a frame by ``timestamp``, so that column
    counts in steps of 1 / fps; other timestamps are kept beside it as ``recorded_timestamp``.

    Where the episodes have no ``state`` or no ``action``, the numbers that the robot observes, or
    the parts of its action, are written once more end to end: LeRobot's policies read no other.

    Args:
        source: Episodes to write.
        out: Folder to make.
        fps: Steps a second, where the episodes do not say.

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
    return Written(writer.lossy, {}, (*notes, *writer.notes))


@final
class _Writer:
    """The open files of one data set."""

    def __init__(self, source: EpisodeSource, out: Path, fps: int) -> None:
        need("pyarrow"), need("av")
        self._source, self._out, self._fps = source, out, fps
        self._columns = columns_of(source, fps)
        self._joined = {
            name: parts
            for name, parts in (
                (layout.STATE, state_parts(source, self._columns)),
                ("action", joined_action(source, self._columns)),
            )
            if parts
        }
        self._tasks = _task_names(source)
        self._rows = RollingParquet(out)
        self._videos = {
            key: RollingVideo(out, column, fps)
            for key, column in self._columns.items()
            if column.medium == "video"
        }
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[dict[str, dict[str, list[Any]]]] = []
        self._start = 0

    @property
    def lossy(self) -> dict[str, str]:
        """Why the values of a key are not the very same."""
        causes = {key: self._columns[key].codec.cause for key in self._videos}
        return {key: cause for key, cause in causes.items() if cause}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the columns that were made."""
        return tuple(
            f"{name}: {', '.join(parts)} end to end, in this order"
            for name, parts in self._joined.items()
        )

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
        arrays = {n: v for n, v in columns.items() if isinstance(v, np.ndarray) and v.ndim <= 2}
        found = {n: layout.statistics(v, False) for n, v in arrays.items()}
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

    def _stream(self, episode: int, length: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Send frames to the videos; give back the other columns, and a sample of the frames."""
        parts: dict[str, list[Any]] = {}
        samples: dict[str, list[NDArray[Any]]] = {}
        chosen = set(np.linspace(0, length - 1, _STATISTICS_FRAMES).astype(int).tolist())
        for start in range(0, length, _BLOCK_ROWS):
            stop = min(length, start + _BLOCK_ROWS)
            block = self._source.read_rows(episode, start, stop)
            picked = [t - start for t in range(start, stop) if t in chosen]
            for key, rows in block.items():
                column = self._columns[key]
                if column.medium != "numbers":
                    sample = column.to_pictures(rows[picked, ::2, ::2])
                    samples.setdefault(column.name, []).append(sample)
                if key in self._videos:
                    self._videos[key].add(rows)
                elif column.medium == "pictures":
                    parts.setdefault(column.name, []).extend(
                        encoded_pictures(column.to_pictures(rows))
                    )
                else:
                    parts.setdefault(column.name, []).append(rows)
            for name, keys in self._joined.items():
                parts.setdefault(name, []).append(joined(block, keys))
        return (
            {n: b if isinstance(b[0], dict) else np.concatenate(b) for n, b in parts.items()},
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
        totals = {
            name: layout.aggregate([of[name] for of in self._statistics])
            for name in self._statistics[0]
        }
        _write_json(self._out / "meta/stats.json", totals)
        info = self._info()
        said = provenance_of(self._source)
        if said is not None:
            about = {"editor": self._source.metadata.editor_id, "episodes": said}
            _write_json(self._out / PROVENANCE_FILE, about)
        _write_json(
            self._out / PASSENGER_FILE,
            {
                **pack(self._source),
                "arrays": [column.place.to_json() for column in self._columns.values()],
                "made": sorted(self._joined),
                "written": written_state(
                    info, self._tasks, [row["length"] for row in self._episodes]
                ),
            },
        )
        _write_json(self._out / "meta/info.json", info)

    def _info(self) -> dict[str, Any]:
        record = SourceRecord.of(self._source.metadata)
        extras = record.extras if record is not None and record.format == NAME else {}
        declared = extras.get("features", {})
        features = {column.name: self._feature(key) for key, column in self._columns.items()}
        first = self._source.read_rows(0, 0, 1)
        for name, parts in self._joined.items():
            names = joined_names(first, parts)
            features[name] = {**layout.feature("float32", (len(names),)), "names": names}
        features |= {
            n: layout.column_feature(d, (), declared.get(n, {})) for n, d in layout.DEFAULTS.items()
        }
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

    def _feature(self, key: str) -> dict[str, Any]:
        """Return the description of a key, with what the source said of it."""
        if key not in self._videos:
            return self._columns[key].feature()
        return self._videos[key].feature()


def written_state(
    info: Mapping[str, Any], tasks: Sequence[str], lengths: Sequence[int]
) -> dict[str, Any]:
    """Return what LeRobot's own files say when written, to see later what others changed."""
    kept = {name: info.get(name) for name in ("fps", "robot_type", "splits", "features")}
    return {**kept, "tasks": list(tasks), "lengths": list(lengths)}


def _rate(source: EpisodeSource, fps: float | None) -> tuple[int, tuple[str, ...]]:
    """Return steps a second: from the source, the user or the timestamps, or assumed."""
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
    """Return the texts that ``task_index`` points into, one at least."""
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


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=4, ensure_ascii=False))
