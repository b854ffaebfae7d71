"""Choose for each key of a store its name and form in a LeRobot data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.actions import action_parts
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.lerobot.depth_codes import DepthCodes, to_picture
from spie_robo.data.formats.naming import ForeignArray, Kind
from spie_robo.data.formats.source_record import (
    DEPTH_RANGE,
    TASK_KEY,
    SourceRecord,
    arrays_for,
)
from spie_robo.data.formats.video import DEPTH, VideoCodec, colour_codec
from spie_robo.data.look_provenance import PROVENANCE_COLUMNS
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields

Medium = Literal["numbers", "video", "pictures"]

RECORDED_TIME = "recorded_timestamp"

NAME = "lerobot"

_TOLERANCE_S = 1e-4

_NO_OBSERVATION = (
    "reward", "success", "timestamp", TASK_KEY, "dones", "terminations", "truncations", "states",
    *PROVENANCE_COLUMNS, RECORDED_TIME,
)  # fmt: skip
_NO_OBSERVATION_STARTS = ("action", "realism_", "next_", "infos_", "recorded_")
_NO_OBSERVATION_ENDS = (
    "_depth", "_segmentation", "_extrinsics", "_raw", "_demo_start_pose", "_demo_end_pose",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One key in a LeRobot data set.

    Attributes:
        place: Key, name, type and row shape of its numbers.
        medium: How it is kept.
        declared: What a LeRobot source said of it in ``meta/info.json``.
        codes: How depth becomes the codes of a video; None for all else.
    """

    place: ForeignArray
    medium: Medium
    declared: Mapping[str, Any] = field(default_factory=dict)
    codes: DepthCodes | None = None

    @property
    def name(self) -> str:
        """Its name in the data set."""
        return self.place.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Row shape."""
        return self.place.shape

    @property
    def codec(self) -> VideoCodec:
        """Encoding of its frames: that of the LeRobot source, where that works."""
        if self.codes is not None:
            return DEPTH
        info = self.declared.get("info")
        name = info.get("video.codec") if isinstance(info, Mapping) else None
        return colour_codec(name, *self.shape[:2])

    def to_video(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows as the frames that are encoded."""
        return rows if self.codes is None else self.codes.to_codes(rows)

    def to_pictures(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows as the pixels of pictures; depth in the unit that the source declared."""
        info = self.declared.get("info")
        unit = info.get("depth_unit") if isinstance(info, Mapping) else None
        return rows if rows.ndim == 4 else to_picture(rows, unit)

    def feature(self) -> dict[str, Any]:
        """Return its description in ``meta/info.json``, unless it is a video."""
        if self.medium == "pictures":
            height, width = self.shape[:2]
            shape = self.declared.get("shape", [height, width, 3])
            return {**self.declared, "dtype": "image", "shape": shape}
        return layout.column_feature(self.place.dtype, self.shape, self.declared)


def columns_of(source: EpisodeSource, fps: int) -> dict[str, Column]:
    """Return every key of ``source`` as a column of a data set of ``fps`` steps a second."""
    known = arrays_for(source, NAME)
    record = SourceRecord.of(source.metadata)
    extras = record.extras if record is not None and record.format == NAME else {}
    first = source.read_rows(0, 0, 1)
    observed = observed_keys(source, first)
    columns = {}
    for key, rows in first.items():
        shape, dtype = rows.shape[1:], rows.dtype.name
        image = is_camera(key, rows)
        if key == "timestamp" and not _counts_steps(source, fps):
            name = RECORDED_TIME
        elif key in known and known[key].name not in (RECORDED_TIME, *layout.DERIVED):
            name = known[key].name
        else:
            name = layout.foreign_name(key, image, key in observed)
            name = f"recorded_{name}" if name in layout.DERIVED else name
        declared = extras.get("features", {}).get(name, {}) if key in known else {}
        if "dtype" in declared:
            declared = {n: v for n, v in declared.items() if n != "is_depth_map"}
        kind: Kind = "camera" if image else "other"
        if key in extras.get(DEPTH_RANGE, {}):
            kind = "depth"
        place = ForeignArray(key, name, dtype, shape, kind)
        columns[key] = _kept_as(place, rows, declared, image)
    return columns


def _kept_as(
    place: ForeignArray, rows: NDArray[Any], declared: Mapping[str, Any], image: bool
) -> Column:
    """Return a column with its medium: that of the LeRobot source, else video for cameras alone."""
    if declared.get("dtype") == "image" and (image or rows.ndim == 3):
        return Column(place, "pictures", declared)
    if declared.get("dtype") == "video" and place.kind == "depth":
        return Column(place, "video", declared, DepthCodes.of(declared.get("info", {}), place.name))
    return Column(place, "video" if image else "numbers", declared)


def is_camera(key: str, rows: NDArray[Any]) -> bool:
    """Return whether a key holds the frames of a camera, which become video.

    Args:
        key: Its name; cameras end with ``_rgb``, or ``_raw`` before an edit.
        rows: Some steps of it.
    """
    named = key.endswith((fields.rgb_key(""), fields.raw_key("")))
    return named and fields.is_image(rows[0])


def observed_keys(source: EpisodeSource, first: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Return keys of numbers that the robot observes, sorted: at most one axis beside the steps.

    Args:
        source: Episodes. Where their format says which arrays are observations, that counts.
        first: A step of every key.
    """
    record = SourceRecord.of(source.metadata)
    inside = {"robomimic": "obs/", "minari": "observations"}.get(record.format if record else "")
    names = {} if record is None else {array.key: array.name for array in record.arrays}
    found = []
    for key, rows in first.items():
        declared = inside is not None and key in names
        if declared and not names[key].startswith(str(inside)):
            continue
        fixed = key in _NO_OBSERVATION or key.startswith(_NO_OBSERVATION_STARTS)
        if not declared and (fixed or key.endswith(_NO_OBSERVATION_ENDS)):
            continue
        if rows.ndim <= 2 and rows.dtype.kind in "biuf":
            found.append(key)
    return tuple(sorted(found))


def state_parts(source: EpisodeSource, columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Return keys of the observation that make up ``observation.state`` where there is none."""
    names = {column.name for column in columns.values()}
    record = SourceRecord.of(source.metadata)
    if layout.STATE in names or (record is not None and record.format == NAME):
        return ()
    first = source.read_rows(0, 0, 1)
    return tuple(key for key in observed_keys(source, first) if first[key].dtype.kind == "f")


def joined_action(source: EpisodeSource, columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Return keys of the parts that make up ``action`` where the source has none."""
    names = {column.name for column in columns.values()}
    return () if {"action", "actions"} & names else action_parts(source.keys)


def _counts_steps(source: EpisodeSource, fps: int) -> bool:
    """Return whether ``timestamp`` is as LeRobot expects: float32, step / fps in every episode."""
    for episode in range(len(source)):
        length = source.episode_length(episode)
        times = source.read_rows(episode, 0, length, ["timestamp"])["timestamp"]
        if times.dtype != np.float32 or times.ndim != 1:
            return False
        if (np.abs(times - np.arange(length) / fps) > _TOLERANCE_S / 2).any():
            return False
    return True
