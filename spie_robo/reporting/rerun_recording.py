"""A store as a recording for the Rerun viewer: frames, geometry and verdicts on one timeline.

Entities::

    <camera>/raw                   the simulator's frames, JPEG
    <camera>/edited                what the policy saw, where it is an edit; JPEG
    <camera>/depth                 metres
    <camera>/segmentation          instance ids, with the names that the store knows
    verdicts/<camera>/edited       1 where the frame is an edit, 0 where it stayed raw
    verdicts/<camera>/<deviation>  what the guard measured
    budget/<camera>/<deviation>    the share of its budget that it used: above 1 is a rejection
    action, reward                 as they were recorded
    episode                        index of the episode in the store
    events                         where episodes begin, which edits were rejected

The timeline ``step`` counts over all shown episodes. Numbers are there for every step, pictures for
some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data import EpisodeStore
from spie_robo.data.store import fields
from spie_robo.errors import MissingExtraError
from spie_robo.files.output import write_bytes
from spie_robo.reporting import verdicts
from spie_robo.reporting.collect import (
    MIN_FRAMES,
    require_content,
    shown_episodes,
    shown_steps,
)
from spie_robo.reporting.content import Budget, StepVerdict

APPLICATION = "spie_robo"
JPEG_QUALITY = 90
PICTURE_BYTES = 2**28
"""Unpacked: a recording is gathered in memory."""


def write_recording(store: str | Path, out: str | Path, *, frames: int = 40) -> Path:
    """Write a store as a recording that ``rerun FILE.rrd`` opens.

    Args:
        store: The episode store; it is only read.
        out: The file to write; an old one is replaced once the new one is whole.
        frames: Steps of an episode that get pictures, at most; fewer where all of them together,
            unpacked, would exceed :data:`PICTURE_BYTES`.

    Returns:
        ``out``.

    Raises:
        MissingExtraError: If ``rerun-sdk`` is not installed.
        StoreError: If there is no store, or it has no episode or no camera.
        StoreCorruptError: If what is read is damaged.
        ConfigError: If the file cannot be written.
    """
    source, out = EpisodeStore.open(store), Path(out)
    cameras = require_content(source)
    # The same store gives the same name: a viewer that shows it already replaces what it shows.
    stream = _rerun().RecordingStream(APPLICATION, recording_id=source.fingerprint())
    memory = stream.memory_recording()
    stream.send_blueprint(_blueprint(source, cameras))
    _log_names(stream, source, cameras)
    first, frames = 0, affordable_frames(source, cameras, frames)
    for episode in shown_episodes(source):
        pictured = shown_steps(source, episode, cameras, frames)
        _log_episode(stream, source, episode, cameras, first, set(pictured))
        first += source.episode_length(episode)
    # Rerun's own file sink does not say when a disk is full.
    write_bytes(out, memory.drain_as_bytes())
    return out


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise MissingExtraError(
            "A recording for the Rerun viewer needs rerun-sdk: pip install 'spie-robo[rerun]'. "
            "A report as a page, --out FILE.html, needs nothing."
        ) from error
    return rerun


def _blueprint(source: EpisodeStore, cameras: Sequence[str]) -> Any:
    """Return a layout with a row of pictures for each camera, and the numbers below."""
    _rerun()
    import rerun.blueprint as layout

    pictures = [
        layout.Spatial2DView(origin=f"{camera}/{kind}", name=f"{camera}, {kind}")
        for camera in cameras
        for kind in picture_kinds(source.keys, camera)
    ]
    below: list[Any] = [
        layout.TimeSeriesView(origin=f"budget/{camera}", name=f"{camera}, share of the budget")
        for camera in cameras
        if fields.raw_key(camera) in source.keys
    ]
    if "action" in source.keys:
        below.append(layout.TimeSeriesView(origin="action", name="action"))
    below.append(layout.TextLogView(origin="events"))
    rows = layout.Grid(*pictures), layout.Horizontal(*below)
    return layout.Blueprint(layout.Vertical(*rows, row_shares=[3, 1]), collapse_panels=True)


def picture_kinds(keys: Sequence[str], camera: str) -> dict[str, str]:
    """Return the pictures of a camera: the entity below it, and the key of a store.

    Where nothing was ever edited, the frames that the policy saw are the simulator's.
    """
    seen, raw = fields.rgb_key(camera), fields.raw_key(camera)
    kinds = {"raw": raw, "edited": seen} if raw in keys else {"raw": seen}
    kinds |= {"segmentation": fields.segmentation_key(camera), "depth": fields.depth_key(camera)}
    return {kind: key for kind, key in kinds.items() if key in keys}


def affordable_frames(source: EpisodeStore, cameras: Sequence[str], wanted: int) -> int:
    """Return how many frames an episode :data:`PICTURE_BYTES` allow for all that are shown."""
    keys = [key for camera in cameras for key in picture_kinds(source.keys, camera).values()]
    size = sum(rows.nbytes for rows in source.read_rows(0, 0, 1, keys).values())
    return max(MIN_FRAMES, min(wanted, PICTURE_BYTES // (size * len(shown_episodes(source)))))


def _log_names(stream: Any, source: EpisodeStore, cameras: Sequence[str]) -> None:
    rerun = _rerun()
    for camera in cameras:
        known = source.metadata.cameras.get(camera)
        names = sorted(known.names.items()) if known is not None else []
        if names and fields.segmentation_key(camera) in source.keys:
            stream.log(f"{camera}/segmentation", rerun.AnnotationContext(names), static=True)


def _log_episode(
    stream: Any,
    source: EpisodeStore,
    episode: int,
    cameras: Sequence[str],
    first: int,
    pictured: set[int],
) -> None:
    """Log one episode, whose first step has the number ``first`` on the timeline."""
    rerun = _rerun()
    length, keys = source.episode_length(episode), set(source.keys)
    columns = source.read_rows(
        episode, 0, length, [key for key in ("action", "reward") if key in keys]
    )
    measured = {c: verdicts.read_measurements(source, episode, c) for c in cameras}
    judged = {c: verdicts.read_verdicts(source, episode, c, measured[c]) for c in cameras}
    limits = {b.name: b for b in verdicts.budgets(source)}
    for step in range(length):
        stream.set_time("step", sequence=first + step)
        stream.log("episode", rerun.Scalars(float(episode)))
        if step == 0:
            stream.log("events", rerun.TextLog(_beginning(source, episode), level="INFO"))
        for name, rows in columns.items():
            stream.log(name, rerun.Scalars(np.asarray(rows[step], np.float64).reshape(-1)))
        for camera in cameras:
            values = {name: float(column[step]) for name, column in measured[camera].items()}
            _log_verdict(stream, camera, judged[camera][step], values, limits)
            if step in pictured:
                _log_pictures(stream, source, episode, step, camera, judged[camera][step])


def _beginning(source: EpisodeStore, episode: int) -> str:
    seed = int(source.seeds[episode])
    return f"Episode {episode} begins" + (f", seed {seed}." if seed >= 0 else ".")


def _log_verdict(
    stream: Any,
    camera: str,
    verdict: StepVerdict,
    values: Mapping[str, float],
    limits: Mapping[str, Budget],
) -> None:
    rerun = _rerun()
    if verdict == "raw":  # nobody tried to edit it
        return
    stream.log(f"verdicts/{camera}/edited", rerun.Scalars(float(verdict in ("edited", "unjudged"))))
    for name, value in values.items():
        if np.isfinite(value):
            stream.log(f"verdicts/{camera}/{name}", rerun.Scalars(value))
            share = budget_share(limits[name], value)
            if share is not None:
                stream.log(f"budget/{camera}/{name}", rerun.Scalars(share))
    what = {"rejected": "the edit was rejected", "failed": "the editor failed"}.get(verdict)
    if what is not None:
        text = f"{camera}: {what}, the raw frame is used."
        stream.log("events", rerun.TextLog(text, level="WARN"))


def budget_share(budget: Budget, value: float) -> float | None:
    """Return the share of its budget that a deviation used, so that all of them fit one axis.

    Args:
        budget: Its limit.
        value: What was measured.

    Returns:
        0 for a perfect edit, 1 at the limit, more beyond it; scores that must be *at least*
        something are taken as what they lack to 1. None where no limit is known, or it leaves no
        room.
    """
    if budget.limit is None:
        return None
    used, room = (value, budget.limit) if budget.at_most else (1 - value, 1 - budget.limit)
    return max(0.0, used / room) if room > 0 else None


def _log_pictures(
    stream: Any,
    source: EpisodeStore,
    episode: int,
    step: int,
    camera: str,
    verdict: StepVerdict,
) -> None:
    rerun = _rerun()
    kinds = picture_kinds(source.keys, camera)
    rows = source.read_rows(episode, step, step + 1, list(kinds.values()))
    row: dict[str, NDArray[Any]] = {kind: rows[key][0] for kind, key in kinds.items()}
    stream.log(f"{camera}/raw", rerun.Image(row["raw"]).compress(jpeg_quality=JPEG_QUALITY))
    if verdict != "raw":
        edited = rerun.Image(row["edited"]).compress(jpeg_quality=JPEG_QUALITY)
        stream.log(f"{camera}/edited", edited)
    if "depth" in row:
        metre = 1.0 if row["depth"].dtype.kind == "f" else 1000.0
        stream.log(f"{camera}/depth", rerun.DepthImage(row["depth"], meter=metre))
    if "segmentation" in row:
        stream.log(
            f"{camera}/segmentation", rerun.SegmentationImage(class_ids(row["segmentation"]))
        )


def class_ids(segmentation: NDArray[Any]) -> NDArray[np.uint16]:
    """Return instance ids for the viewer, (H, W); an id that it cannot hold is 65535."""
    largest = np.iinfo(np.uint16).max
    known = (segmentation >= 0) & (segmentation < largest)
    return np.where(known, segmentation, largest).astype(np.uint16)
