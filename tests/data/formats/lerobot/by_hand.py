"""LeRobot 0.6 data sets, made by hand to its published layout and not by our writer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
TASKS = ("push the cube", "lift it")
NUMBERS = {"timestamp": "float32"} | dict.fromkeys(
    ("frame_index", "episode_index", "index", "task_index"), "int64"
)


def video(path: Path, frames: np.ndarray, fps: int, *, codec: str, pixels: str, **options) -> None:
    """One MP4 file; frames are uint8 colours, or uint16 codes of a grey format."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        layout = pixels if pixels.startswith("gray") else "rgb24"
        for number, rows in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rows), format=layout)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def depth_video(path: Path, codes: np.ndarray) -> dict[str, Any]:
    """A video of 12-bit codes as LeRobot 0.6.1 writes it, and its feature."""
    video(path, codes, FPS, codec="hevc", pixels="gray12le", g="2",
          **{"x265-params": "lossless=1:log-level=error"})  # fmt: skip
    height, width = codes.shape[1:]
    info = {
        "video.height": height, "video.width": width, "video.codec": "hevc",
        "video.pix_fmt": "gray12le", "video.fps": FPS, "video.channels": 1, "has_audio": False,
        "video.g": 2, "video.crf": 30, "video.preset": None, "video.extra_options": {},
        "video.depth_min": 0.01, "video.depth_max": 10.0, "video.shift": 3.5,
        "video.use_log": True, "is_depth_map": True, "depth_unit": "mm",
    }  # fmt: skip
    return {"dtype": "video", "shape": [height, width, 1],
            "names": ["height", "width", "channels"], "info": info}  # fmt: skip


def data_set(
    root: Path,
    columns: Mapping[str, Any],
    lengths: Sequence[int],
    features: Mapping[str, Mapping[str, Any]],
    *,
    tasks: Sequence[str] = TASKS,
    task_of: Sequence[int] | None = None,
    timestamps: Sequence[Sequence[float]] | None = None,
    begins: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Write the files around videos that are already there.

    Args:
        root: Folder of the data set.
        columns: Arrow arrays or numpy arrays over all episodes, by name.
        lengths: Steps of each episode.
        features: Of the columns and of the videos.
        tasks: The texts.
        task_of: Number of each episode's text; None takes turns.
        timestamps: Of each episode; None counts steps.
        begins: ``from_timestamp`` of each episode, by video.
    """
    total, count = sum(lengths), len(lengths)
    task_of = task_of or [i % len(tasks) for i in range(count)]
    times = timestamps or [np.arange(n) / FPS for n in lengths]
    numbers = {
        "timestamp": np.concatenate(times).astype(np.float32),
        "frame_index": np.concatenate([np.arange(n) for n in lengths]),
        "episode_index": np.repeat(np.arange(count), lengths),
        "index": np.arange(total),
        "task_index": np.repeat(task_of, lengths),
    }
    arrays = {name: _arrow(values) for name, values in {**columns, **numbers}.items()}
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(arrays), root / "data/chunk-000/file-000.parquet")
    starts = np.cumsum([0, *lengths])
    videos = [name for name, item in features.items() if item["dtype"] == "video"]
    rows = []
    for i, length in enumerate(lengths):
        row = {
            "episode_index": i, "tasks": [tasks[task_of[i]]], "length": length,
            "data/chunk_index": 0, "data/file_index": 0,
            "dataset_from_index": int(starts[i]), "dataset_to_index": int(starts[i + 1]),
            "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
        }  # fmt: skip
        for name in videos:
            begin = (begins or {}).get(name, starts / FPS)[i]
            row |= {f"videos/{name}/chunk_index": 0, f"videos/{name}/file_index": 0,
                    f"videos/{name}/from_timestamp": float(begin),
                    f"videos/{name}/to_timestamp": float(begin) + length / FPS}  # fmt: skip
        rows.append(row)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    write_tasks(root, tasks)
    info = {
        "codebase_version": "v3.0", "robot_type": "panda", "total_episodes": count,
        "total_frames": total, "total_tasks": len(tasks), "chunks_size": 1000, "fps": FPS,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
        "splits": {"train": f"0:{count}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {**features, **{n: {"dtype": d, "shape": [1], "names": None}
                                    for n, d in NUMBERS.items()}},
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    return root


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """``meta/tasks.parquet`` as LeRobot 0.6.1 writes it: the texts are the index "task"."""
    about = {
        "index_columns": ["task"], "column_indexes": [], "pandas_version": "2.3.3",
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
             "numpy_type": "int64", "metadata": None},
            {"name": "task", "field_name": "task", "pandas_type": "unicode",
             "numpy_type": "object", "metadata": None},
        ],
    }  # fmt: skip
    table = pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)})
    table = table.replace_schema_metadata({"pandas": json.dumps(about)})
    pq.write_table(table, root / "meta/tasks.parquet")


def video_file(root: Path, name: str) -> Path:
    return root / f"videos/{name}/chunk-000/file-000.mp4"


def numbers(dtype: str, shape: Sequence[int], names: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


def _arrow(values: Any) -> Any:
    if isinstance(values, pa.Array):
        return values
    values = np.asarray(values)
    return pa.array(values.tolist() if values.ndim > 1 else values)
