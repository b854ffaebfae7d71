"""Paths and names of the features in a LeRobot v3 data set.

Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and ``lerobot/datasets/utils.py``
of lerobot 0.4.4 and 0.6.1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.naming import standard_names
from spie_robo.data.formats.video import VideoCodec
from spie_robo.data.store import fields
from spie_robo.errors import StoreError

VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"

DERIVED = ("frame_index", "episode_index", "index")
"""Columns that follow from the episodes' lengths."""

DEFAULTS: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every data set has."""

OBSERVATION = "observation."
IMAGES = OBSERVATION + "images."
STATE = OBSERVATION + "state"

_NAMES = {"state": "observation.state", "reward": "next.reward", "success": "next.success"}
_TEMPLATE = re.compile(
    r"[\w\-./]*(\{(chunk_index|file_index|video_key)(:0\d{1,2}d)?\}[\w\-./]*)+", re.ASCII
)
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


@dataclass(frozen=True)
class EpisodePlace:
    """The place of one episode.

    Attributes:
        start: Its first row, counted over all episodes.
        length: Its steps.
        file: (chunk, file) of its rows.
        videos: (chunk, file, seconds at which it begins) by the name of each video.
    """

    start: int
    length: int
    file: tuple[int, int]
    videos: Mapping[str, tuple[int, int, float]] = field(default_factory=dict)


def foreign_name(key: str, image: bool, observed: bool = False) -> str:
    """Return LeRobot's name for a key of a store.

    Args:
        key: The key.
        image: Whether it holds the frames of a camera.
        observed: Whether it is part of the observation; LeRobot's policies look at no other.
    """
    if image:
        return IMAGES + key.removesuffix(fields.rgb_key(""))
    return _NAMES.get(key, OBSERVATION + key if observed else key)


def key_names(features: Mapping[str, Any]) -> dict[str, str]:
    """Return keys of a store for the names of a data set that others wrote."""
    names = {name: key for key, name in _NAMES.items()} | standard_names(features)
    return {
        name: names.get(name, name.removeprefix(IMAGES).removeprefix(OBSERVATION).replace(".", "_"))
        for name in features
    }


def feature(dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    """Return the description of a column; a single number has shape (1,)."""
    return {"dtype": dtype, "shape": list(shape) or [1], "names": None}


def video_feature(
    size: tuple[int, int],
    fps: int,
    codec: VideoCodec,
    pixel_format: str,
    declared: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the description of a video.

    Args:
        size: (height, width).
        fps: Frames a second.
        codec: How it is encoded.
        pixel_format: FFmpeg's name of the layout of a frame.
        declared: What a LeRobot source said of this feature. LeRobot merges data sets only if their
            features are described alike, so all that is still true stays as it was.
    """
    height, width = size
    channels = 1 if codec.grey else 3
    stream: dict[str, Any] = {
        "video.height": height,
        "video.width": width,
        "video.codec": codec.name,
        "video.pix_fmt": pixel_format,
        "video.fps": fps,
        "video.channels": channels,
    }
    before = declared.get("info")
    if not isinstance(before, Mapping):
        before = {"video.is_depth_map": False, "has_audio": False}
    encoder = {f"video.{name}": codec.options.get(name) for name in ("g", "crf", "preset")}
    plain = {n: int(v) if v and v.isdigit() else v for n, v in encoder.items() if n in before}
    info = {**before, **plain, **stream}
    shape = declared.get("shape")
    if not isinstance(shape, list) or math.prod(shape) != height * width * channels:
        shape = [height, width, channels]
    names = declared.get("names", ["height", "width", "channels"])
    return {**declared, "dtype": "video", "shape": shape, "names": names, "info": info}


def column_feature(dtype: str, shape: Sequence[int], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a column, with a LeRobot source's where that is true."""
    plain = feature(dtype, shape)
    if declared.get("shape") == plain["shape"] and declared.get("dtype") == dtype:
        return dict(declared)
    return {**plain, "names": declared.get("names")}


def file_at(root: Path, template: str, chunk: int, file: int, video: str = "") -> Path:
    """Return a file of a data set.

    Raises:
        StoreError: If the template holds anything but numbers and names, or leads outside.
    """
    if not _TEMPLATE.fullmatch(template):
        raise StoreError(f"{root}: {template!r} is no template of a path in the data set.")
    path = root / template.format(chunk_index=chunk, file_index=file, video_key=video)
    return limits.check_inside(root, path)


def read_info(root: Path) -> dict[str, Any]:
    """Read ``meta/info.json``, with what a reader needs in it.

    Raises:
        StoreError: If it is damaged.
    """
    path = limits.check_inside(root, root / "meta" / "info.json")
    limits.check_size(str(path), path.stat().st_size, limits.MAX_HEADER_BYTES)
    try:
        info: dict[str, Any] = json.loads(path.read_bytes())
        features = {str(name): _read_feature(item) for name, item in info["features"].items()}
        info["fps"] = float(info["fps"])
        info["data_path"] = str(info["data_path"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: it is damaged ({error!r}).") from error
    if not 0 < info["fps"] < 1e5:
        raise StoreError(f"{path}: expected fps above 0, got {info['fps']}.")
    return {**info, "features": features}


def _read_feature(item: Mapping[str, Any]) -> dict[str, Any]:
    """Read one feature of ``meta/info.json``; under ``declared`` stands all that it says."""
    about = item.get("info") or item.get("video_info")
    info = about if isinstance(about, Mapping) else {}
    shown = info.get("is_depth_map") is True or info.get("video.is_depth_map") is True
    return {
        "dtype": str(item["dtype"]),
        "shape": tuple(int(n) for n in item["shape"]),
        "names": item.get("names"),
        "info": info,
        "is_depth_map": shown,
        "declared": dict(item),
    }


def splits(declared: object, episodes: int) -> dict[str, str]:
    """Return a source's splits, if they are ranges of its episodes; else one of all."""
    if isinstance(declared, Mapping) and declared:
        ranges = [re.fullmatch(r"\d{1,12}:(\d{1,12})", str(text)) for text in declared.values()]
        if all(found is not None and int(found[1]) <= episodes for found in ranges):
            return {str(name): str(text) for name, text in declared.items()}
    return {"train": f"0:{episodes}"}


def read_episodes(root: Path, videos: Sequence[str]) -> list[EpisodePlace]:
    """Read the place of every episode, in order.

    Raises:
        StoreError: If ``meta/episodes`` is missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        table = open_parquet(root, path)
        names = [n for n in table.schema_arrow.names if not n.startswith("stats/")]
        rows += table.read(columns=names).to_pylist()
    rows.sort(key=lambda row: int(row.get("episode_index", -1)))
    try:
        return [
            EpisodePlace(
                int(row["dataset_from_index"]),
                int(row["length"]),
                (int(row["data/chunk_index"]), int(row["data/file_index"])),
                {name: _video_place(row, name) for name in videos},
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{root}/meta/episodes: it is damaged ({error!r}).") from error


def _video_place(row: Mapping[str, Any], name: str) -> tuple[int, int, float]:
    prefix = f"videos/{name}/"
    return (
        int(row[f"{prefix}chunk_index"]),
        int(row[f"{prefix}file_index"]),
        float(row[f"{prefix}from_timestamp"]),
    )


def open_parquet(root: Path, path: Path) -> Any:
    """Open a parquet file; its footer must not claim row groups that are too large.

    Raises:
        StoreError: If it does, or cannot be read.
    """
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    inside = limits.check_inside(root, path)
    try:
        file = parquet.ParquetFile(
            inside,
            thrift_string_size_limit=limits.MAX_HEADER_BYTES,
            thrift_container_size_limit=limits.MAX_MEMBERS,
        )
    except (arrow.ArrowInvalid, OSError) as error:
        raise StoreError(f"{path}: it cannot be read as parquet: {error}.") from error
    for group in range(file.metadata.num_row_groups):
        claimed = file.metadata.row_group(group).total_byte_size
        limits.check_size(f"{path}: row group {group}", claimed, 4 * limits.MAX_CHUNK_BYTES)
    return file


def tasks_table(tasks: Sequence[str]) -> Any:
    """Return the table of ``meta/tasks.parquet``, with the texts as the index of pandas."""
    arrow = need("pyarrow")
    index = "__index_level_0__"
    about = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": None,
                "field_name": index,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": arrow.__version__},
        "pandas_version": "2.2.0",
    }
    table = arrow.table(
        {"task_index": arrow.array(range(len(tasks)), arrow.int64()), index: list(tasks)}
    )
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def read_tasks(root: Path) -> tuple[str, ...]:
    """Read the language instructions in the order that ``task_index`` counts.

    Raises:
        StoreError: If ``meta/tasks.parquet`` is damaged.
    """
    path = root / "meta" / "tasks.parquet"
    if not path.is_file():
        return ()
    rows = open_parquet(root, path).read().to_pylist()
    found = {}
    for row in rows:
        texts = [value for name, value in row.items() if name != "task_index"]
        texts = texts if len(texts) == 1 else [row.get("task", row.get("__index_level_0__"))]
        if texts[0] is None or not isinstance(row.get("task_index"), int):
            raise StoreError(f"{path}: expected a text and a task_index a row, got {list(row)}.")
        found[int(row["task_index"])] = str(texts[0])
    if sorted(found) != list(range(len(found))):
        raise StoreError(f"{path}: task_index does not count from 0.")
    return tuple(found[number] for number in range(len(found)))


def statistics(rows: NDArray[Any], image: bool) -> dict[str, list[Any]]:
    """Return the statistics of one feature in one episode, in LeRobot's shapes.

    Args:
        rows: (steps, ...); of images a sample, (frames, height, width, 3), uint8, or of depth
            (frames, height, width).
        image: Colours count from 0 to 1; the shape is (3, 1, 1), of depth (1, 1, 1).
    """
    if image:
        channels = rows.shape[3] if rows.ndim == 4 else 1  # depth has one, in its own unit
        values = rows.reshape(-1, channels) / (255 if channels == 3 else 1)
    else:
        values = rows.reshape(len(rows), -1)
    values = values.astype(np.float64)
    found = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        **{name: np.quantile(values, q, 0) for name, q in _QUANTILES.items()},
    }
    shape = (-1, 1, 1) if image else (-1,)
    return {name: v.reshape(shape).tolist() for name, v in found.items()} | {"count": [len(rows)]}


def aggregate(parts: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Return statistics over episodes; quantiles are weighted means, as LeRobot's own."""
    counts = np.array([part["count"][0] for part in parts], np.float64)
    stacked = {n: np.array([part[n] for part in parts]) for n in parts[0] if n != "count"}
    weights = counts.reshape(-1, *([1] * (stacked["mean"].ndim - 1))) / counts.sum()
    mean = (stacked["mean"] * weights).sum(0)
    spread = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * weights).sum(0)
    result = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean}
    result |= {"std": np.sqrt(spread)}
    result |= {name: (stacked[name] * weights).sum(0) for name in _QUANTILES}
    return {n: v.tolist() for n, v in result.items()} | {"count": [int(counts.sum())]}
