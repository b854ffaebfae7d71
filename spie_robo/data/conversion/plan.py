"""Plan a conversion: its cameras, its time and the size of its output."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from spie_robo.data.conversion.camera_choice import edited_cameras, editing_notes
from spie_robo.data.conversion.variants import edited_steps
from spie_robo.data.formats.lerobot.columns import is_camera
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.frames import camera_frames
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.recorded_geometry import Origin, geometry_origin, unusable_geometry
from spie_robo.data.store import fields
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import StoreError
from spie_robo.settings.wording import counted

_SAMPLE_ROWS = 16
_TIMED_FRAMES = 4
_VERDICT_BYTES = 42


@dataclass(frozen=True)
class CameraPlan:
    """One camera of a data set.

    Attributes:
        name: Name of the camera.
        size: (height, width) of its frames.
        geometry: Origin of the geometry that its edits would be judged against.
        edited: Whether its frames would be edited.
    """

    name: str
    size: tuple[int, int]
    geometry: Origin
    edited: bool


@dataclass(frozen=True)
class ConvertPlan:
    """The plan of a conversion, with estimates.

    Attributes:
        source: Path of the source.
        found: Format of the source.
        out: Path of the output.
        to: Format of the output.
        cameras: Every camera in the source.
        episodes: Number of episodes in the source.
        steps: Number of steps in the source.
        edited_steps: Number of steps of the episodes whose frames would be edited.
        seconds: Time of editing, estimated by editing a few frames; 0 without an editor.
        out_bytes: Size of the output, estimated by packing a few steps.
        notes: Parts of the source that would be left out.
    """

    source: Path
    found: str
    out: Path
    to: str
    cameras: tuple[CameraPlan, ...]
    episodes: int
    steps: int
    edited_steps: int
    seconds: float
    out_bytes: int
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Number of camera frames that would be edited."""
        return self.edited_steps * sum(camera.edited for camera in self.cameras)

    def __str__(self) -> str:
        """Return the plan in a few lines of text."""
        lines = [
            f"{self.source} ({self.found}) -> {self.out} ({self.to})",
            f"  {counted(self.episodes, 'episode')}, {counted(self.steps, 'step')}, "
            f"{counted(self.frames, 'frame')} to edit",
        ]
        lines += [
            f"  camera {c.name}: {c.size[1]}x{c.size[0]}, geometry {c.geometry}"
            f"{'' if c.edited else ', copied as it is'}"
            for c in self.cameras
        ]
        lines.append(
            f"  time about {_time(self.seconds)}, output about {self.out_bytes / 1e6:.1f} MB"
        )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def plan_conversion(
    source: EpisodeSource,
    path: Path,
    found: str,
    out: Path,
    to: str,
    guarded: GuardedEditor | None,
    cameras: tuple[str, ...],
) -> ConvertPlan:
    """Plan a conversion by editing a few frames; nothing is written.

    Args:
        source: The opened data set.
        path: Path of the data set.
        found: Format of the data set.
        out: Path of the output.
        to: Format of the output.
        guarded: The editor and guard to time; None edits nothing.
        cameras: Cameras to edit; empty: all.

    Raises:
        ConfigError: If there is no such camera.
        StoreError: If the source is damaged, or has no episode.
        EditorError: If the editor fails.
    """
    if not len(source):
        raise StoreError(f"{path}: it has no finished episode. Record some first.")
    present = fields.cameras_of(source.keys)
    edited = set() if guarded is None else set(edited_cameras(source, cameras))
    first = source.read_rows(0, 0, 1)
    unusable = unusable_geometry(source, present)
    plans = tuple(
        CameraPlan(
            camera,
            first[fields.rgb_key(camera)].shape[1:3],
            geometry_origin(source.metadata, set(source.keys) - set(unusable), camera),
            camera in edited,
        )
        for camera in present
    )
    steps = sum(source.episode_length(i) for i in range(len(source)))
    record = SourceRecord.of(source.metadata)
    to_edit = edited_steps(source)
    seconds = 0.0 if guarded is None else _edit_seconds(source, guarded, edited) * to_edit
    notes = () if record is None else record.notes
    notes += editing_notes(source, edited)
    size = int(_bytes_per_step(source, to, edited) * steps)
    return ConvertPlan(
        path, found, out, to, plans, len(source), steps, to_edit, seconds, size, notes
    )


def _edit_seconds(source: EpisodeSource, guarded: GuardedEditor, edited: set[str]) -> float:
    """Return the seconds of editing one step of all cameras, without the warm-up call."""
    rows = source.read_rows(0, 0, min(_TIMED_FRAMES, source.episode_length(0)))
    frames = [f for camera in sorted(edited) for f in camera_frames(source.metadata, rows, camera)]
    if not frames:
        return 0.0
    chosen = frames[:_TIMED_FRAMES]
    guarded.edit(chosen[:1], [0])
    began = time.perf_counter()
    guarded.edit(chosen, [0] * len(chosen))
    return (time.perf_counter() - began) / len(chosen) * len(edited)


def _bytes_per_step(source: EpisodeSource, to: str, edited: set[str]) -> float:
    episode = len(source) // 2
    rows = source.read_rows(episode, 0, min(_SAMPLE_ROWS, source.episode_length(episode)))
    total = 0.0
    for key, sample in rows.items():
        size = _packed_bytes(key, sample, to) / len(sample)
        total += size
        if key.endswith(fields.rgb_key("")) and key.removesuffix(fields.rgb_key("")) in edited:
            raw = fields.raw_key(key.removesuffix(fields.rgb_key("")))
            total += _VERDICT_BYTES + (0 if raw in rows else size)
    return total


def _packed_bytes(key: str, rows: NDArray[Any], to: str) -> int:
    if to == "lerobot" and is_camera(key, rows):
        from spie_robo.data.formats.video import encoded_size

        return encoded_size(rows)
    contiguous = np.ascontiguousarray(rows)
    shuffle = int(rows.dtype.itemsize > 1)
    return len(numcodecs.Blosc("zstd", clevel=3, shuffle=shuffle).encode(contiguous))


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
