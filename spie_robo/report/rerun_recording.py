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

from spie_robo.data import EpisodeStore, fields
from spie_robo.errors import MissingExtraError
from spie_robo.output_files import write_bytes
from spie_robo.report import verdicts
from spie_robo.report.collect import require_content, shown_episodes, shown_steps
from spie_robo.report.content import Budget, StepVerdict

APPLICATION = "spie_robo"
JPEG_QUALITY = 90


def write_recording(store: str | Path, out: str | Path, *, frames: int = 40) -> Path:
    """Write a store as a recording that ``rerun FILE.rrd`` opens.

    Args:
        store: The episode store; it is only read.
        out: The file to write; an old one is replaced once the new one is whole.
        frames: Steps of an episode that get pictures, at most.

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
    first = 0
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
    """Raw beside edited, a row for each camera, and the verdicts below."""
    _rerun()
    import rerun.blueprint as layout

    kinds = ("raw", "edited", "segmentation", "depth")
    pictures = [
        layout.Spatial2DView(origin=f"{camera}/{kind}", name=f"{camera}, {kind}")
        for camera in cameras
        for kind in kinds
        if _key(camera, kind) in source.keys
    ]
    numbers = [
        layout.TimeSeriesView(origin=f"budget/{camera}", name=f"{camera}, share of the budget")
        for camera in cameras
    ]
    numbers.append(layout.TimeSeriesView(origin="action", name="action"))
    rows = [
        layout.Grid(*pictures),
        layout.Horizontal(*numbers, layout.TextLogView(origin="events")),
    ]
    return layout.Blueprint(layout.Vertical(*rows, row_shares=[3, 1]), collapse_panels=True)


def _key(camera: str, kind: str) -> str:
    keys = {
        "raw": fields.raw_key,
        "edited": fields.rgb_key,
        "depth": fields.depth_key,
        "segmentation": fields.segmentation_key,
    }
    return keys[kind](camera)


def _log_names(stream: Any, source: EpisodeStore, cameras: Sequence[str]) -> None:
    rerun = _rerun()
    for camera in cameras:
        known = source.metadata.cameras.get(camera)
        names = sorted(known.names.items()) if known is not None else []
        if names and _key(camera, "segmentation") in source.keys:
            context = rerun.AnnotationContext([(number, name) for number, name in names])
            stream.log(f"{camera}/segmentation", context, static=True)


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
    limits = {b.name: b for b in verdicts.budgets(source.metadata.provenance)}
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
    """How much of its budget a deviation used, so that all of them fit one axis.

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
    kinds = {k: _key(camera, k) for k in ("raw", "edited", "depth", "segmentation")}
    present = [key for key in kinds.values() if key in source.keys]
    rows = source.read_rows(episode, step, step + 1, present)
    row: dict[str, NDArray[Any]] = {key: value[0] for key, value in rows.items()}
    seen = row[kinds["edited"]]
    raw = row.get(kinds["raw"], seen)
    stream.log(f"{camera}/raw", rerun.Image(raw).compress(jpeg_quality=JPEG_QUALITY))
    if verdict != "raw":
        stream.log(f"{camera}/edited", rerun.Image(seen).compress(jpeg_quality=JPEG_QUALITY))
    if kinds["depth"] in row:
        depth = row[kinds["depth"]]
        metre = 1.0 if depth.dtype.kind == "f" else 1000.0
        stream.log(f"{camera}/depth", rerun.DepthImage(depth, meter=metre))
    if kinds["segmentation"] in row:
        ids = np.clip(row[kinds["segmentation"]], 0, np.iinfo(np.uint16).max).astype(np.uint16)
        stream.log(f"{camera}/segmentation", rerun.SegmentationImage(ids))
