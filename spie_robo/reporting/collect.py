"""Gather what a report shows from a store, within a bound on the size of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data import EpisodeSource, EpisodeStore
from spie_robo.data.store.fields import cameras_of, realism_key
from spie_robo.errors import StoreError
from spie_robo.reporting import verdicts
from spie_robo.reporting.content import (
    CameraRow,
    CameraTrack,
    EpisodeTrack,
    Provenance,
    ReportContent,
    StepVerdict,
    Tile,
)
from spie_robo.reporting.images import data_uri, outline_path
from spie_robo.reporting.photos import LONGEST_SIDE, ReferencePhotos, reference_photos
from spie_robo.reporting.text import as_text
from spie_robo.types import RGB

IMAGE_BYTES = 5_000_000
"""Images and outlines together take about this much at most."""

MAX_EPISODES = 12
MAX_STEPS = 20_000
"""Episodes beyond either bound are counted in the tables and not shown."""

MIN_FRAMES = 2


@final
@dataclass(frozen=True)
class Tally:
    """Counts over the whole store.

    Attributes:
        verdicts: Per camera the number of frames of each verdict.
        measurements: Per deviation the values of all cameras and steps, NaN where not measured.
        solved: Whether each episode was solved; empty if the store does not say.
    """

    verdicts: Mapping[str, Counter[StepVerdict]]
    measurements: Mapping[str, NDArray[np.float64]]
    solved: tuple[bool, ...]

    @property
    def frames(self) -> int:
        """Camera frames in the store."""
        return sum(counts.total() for counts in self.verdicts.values())

    def count(self, verdict: StepVerdict) -> int:
        """Return the number of frames with this verdict, over all cameras."""
        return sum(counts[verdict] for counts in self.verdicts.values())


def collect(store: EpisodeStore, frames: int, address: str | None = None) -> ReportContent:
    """Read what the page shows.

    Args:
        store: The episodes.
        frames: Frames of an episode that get images, at most.
        address: Where to say that the store is; None: at its path.

    Raises:
        StoreError: If the store has no episode or no camera.
        StoreCorruptError: If a frame that is read is damaged.
    """
    cameras = require_content(store)
    metadata = store.metadata
    tally = count_all(store, cameras)
    limits = verdicts.budgets(store)
    shown = shown_episodes(store)
    per_episode = _frames_per_episode(store, cameras, len(shown), frames)
    photos = reference_photos(metadata)
    tracks = [_episode(store, index, cameras, per_episode, photos) for index in shown]
    followed, tracks = _followed_alone(tracks)
    return ReportContent(
        title=metadata.env_id or store.path.name,
        instruction=metadata.instruction,
        edited=any(counts.total() > counts["raw"] for counts in tally.verdicts.values()),
        sampling_note=_sampling_note(store, shown, per_episode),
        tiles=_tiles(store, tally),
        camera_rows=tuple(_camera_row(name, counts) for name, counts in tally.verdicts.items()),
        measurement_rows=verdicts.measurement_rows(limits, tally.measurements),
        provenance=_provenance(store, address or str(store.path)),
        budgets=limits,
        episodes=tuple(tracks),
        photos=tuple(data_uri(photos.images[index], LONGEST_SIDE) for index in followed),
        photo_note=photos.note,
    )


def require_content(store: EpisodeStore) -> tuple[str, ...]:
    """Return the cameras of a store that has something to report on.

    Raises:
        StoreError: If it has no episode or no camera.
    """
    cameras = cameras_of(store.keys)
    if not cameras or not len(store):
        missing = "cameras (keys that end in _rgb)" if len(store) else "finished episodes"
        raise StoreError(f"{store.path}: expected {missing} to report on, found none.")
    return cameras


def count_all(source: EpisodeSource, cameras: Sequence[str]) -> Tally:
    """Count the verdicts of every frame; no image is read."""
    counts: dict[str, Counter[StepVerdict]] = {camera: Counter() for camera in cameras}
    pooled: dict[str, list[NDArray[np.float64]]] = {}
    solved: list[bool] = []
    for episode in range(len(source)):
        for camera in cameras:
            measured = verdicts.read_measurements(source, episode, camera)
            counts[camera].update(verdicts.read_verdicts(source, episode, camera, measured))
            for name, values in measured.items():
                pooled.setdefault(name, []).append(values)
        success = _success(source, episode)
        if success is not None:
            solved.append(success)
    return Tally(counts, {k: np.concatenate(v) for k, v in pooled.items()}, tuple(solved))


def _success(source: EpisodeSource, episode: int) -> bool | None:
    if "success" not in source.keys:
        return None
    length = source.episode_length(episode)
    return bool(source.read_rows(episode, 0, length, ("success",))["success"].any())


def shown_episodes(source: EpisodeSource) -> range:
    """Return the first episodes, up to :data:`MAX_EPISODES` and :data:`MAX_STEPS`."""
    steps = 0
    for index in range(min(len(source), MAX_EPISODES)):
        steps += source.episode_length(index)
        if steps > MAX_STEPS:
            return range(max(1, index))
    return range(min(len(source), MAX_EPISODES))


def _frames_per_episode(
    source: EpisodeSource, cameras: Sequence[str], episodes: int, wanted: int
) -> int:
    """Return how many fit into :data:`IMAGE_BYTES`, judged by the middle of the first episode."""
    middle = source.episode_length(0) // 2
    size = sum(len(text) for c in cameras for text in _images(source, 0, middle, c))
    return max(MIN_FRAMES, min(wanted, IMAGE_BYTES // max(1, size * episodes)))


def _episode(
    source: EpisodeSource,
    index: int,
    cameras: Sequence[str],
    frames: int,
    photos: ReferencePhotos,
) -> EpisodeTrack:
    length = source.episode_length(index)
    shown = shown_steps(source, index, cameras, frames)
    seed, success = int(source.seeds[index]), _success(source, index)
    notes = [f"{length} steps"]
    if seed >= 0:
        notes.append(f"seed {seed}")
    if success is not None:
        notes.append("task solved" if success else "task not solved")
    return EpisodeTrack(
        label=f"{index + 1} of {len(source)}",
        note=", ".join(notes),
        length=length,
        shown=shown,
        cameras=tuple(_camera(source, index, shown, camera, photos) for camera in cameras),
    )


def _followed_alone(tracks: list[EpisodeTrack]) -> tuple[list[int], list[EpisodeTrack]]:
    """Return the photos that shown edits follow, and the tracks with places among these."""
    used = {p for t in tracks for c in t.cameras for p in c.photos if p is not None}
    followed = sorted(used)
    places = {photo: place for place, photo in enumerate(followed)}

    def renumbered(camera: CameraTrack) -> CameraTrack:
        return replace(
            camera, photos=tuple(None if p is None else places[p] for p in camera.photos)
        )

    return followed, [replace(t, cameras=tuple(map(renumbered, t.cameras))) for t in tracks]


def shown_steps(
    source: EpisodeSource, episode: int, cameras: Sequence[str], frames: int
) -> tuple[int, ...]:
    """Return steps spread over the episode, at most half of them for frames that went wrong."""
    length = source.episode_length(episode)
    wrong: set[int] = set()
    for camera in cameras:
        measured = verdicts.read_measurements(source, episode, camera)
        found = verdicts.read_verdicts(source, episode, camera, measured)
        wrong |= {step for step, verdict in enumerate(found) if verdict in ("rejected", "failed")}
    chosen = {sorted(wrong)[i] for i in _spread(len(wrong), frames // 2)}
    return tuple(sorted(chosen | set(_spread(length, frames - len(chosen)))))


def _spread(length: int, count: int) -> list[int]:
    """Return at most ``count`` indices of ``length`` things, evenly spread."""
    return [int(i) for i in np.linspace(0, length - 1, min(count, length)).round()]


def _camera(
    source: EpisodeSource,
    episode: int,
    shown: Sequence[int],
    camera: str,
    photos: ReferencePhotos,
) -> CameraTrack:
    measured = verdicts.read_measurements(source, episode, camera)
    images = [_images(source, episode, step, camera) for step in shown]
    height, width = _read(source, episode, 0, f"{camera}_rgb").shape[:2]
    raw, edited, outlines = zip(*images, strict=True)
    outcomes = verdicts.read_verdicts(source, episode, camera, measured)
    return CameraTrack(
        name=camera,
        width=width,
        height=height,
        raw=raw,
        edited=edited,
        outlines=outlines if any(outlines) else (),
        verdicts=outcomes,
        photos=_photos_of(source, episode, shown, camera, outcomes, photos),
        measurements={name: verdicts.plain_value(values) for name, values in measured.items()},
    )


def _photos_of(
    source: EpisodeSource,
    episode: int,
    shown: Sequence[int],
    camera: str,
    outcomes: Sequence[StepVerdict],
    photos: ReferencePhotos,
) -> tuple[int | None, ...]:
    """Return the photo that the edit of each shown step followed, kept or not."""
    key = realism_key(camera, "seed")
    if not photos.images or key not in source.keys:
        return (None,) * len(shown)
    seeds = source.read_rows(episode, 0, source.episode_length(episode), (key,))[key]
    return tuple(
        None if outcomes[step] == "raw" else photos.of_seed(int(seeds[step])) for step in shown
    )


def _images(source: EpisodeSource, episode: int, step: int, camera: str) -> tuple[str, str, str]:
    """Return raw frame, edited frame and outlines of one step."""
    seen: RGB = _read(source, episode, step, f"{camera}_rgb")
    raw_key, segmentation_key = f"{camera}_raw", f"{camera}_segmentation"
    raw: RGB = _read(source, episode, step, raw_key) if raw_key in source.keys else seen
    outlines = ""
    if segmentation_key in source.keys:
        outlines = outline_path(_read(source, episode, step, segmentation_key))
    return data_uri(raw), data_uri(seen), outlines


def _read(source: EpisodeSource, episode: int, step: int, key: str) -> NDArray[Any]:
    row: NDArray[Any] = source.read_rows(episode, step, step + 1, (key,))[key][0]
    return row


def _sampling_note(source: EpisodeSource, shown: range, frames: int) -> str:
    notes = []
    if any(source.episode_length(index) > frames for index in shown):
        notes.append(f"Pictures are of {frames} steps an episode, verdicts of every step.")
    if len(shown) < len(source):
        notes.append(f"The first {len(shown)} of {len(source)} episodes are shown.")
    return " ".join(notes)


def _tiles(store: EpisodeStore, tally: Tally) -> tuple[Tile, ...]:
    kept = tally.count("edited") + tally.count("unjudged")
    tried = kept + tally.count("rejected") + tally.count("failed")
    tiles = [
        Tile(
            "Edits kept",
            f"{100 * kept / tried:.1f} %" if tried else "none",
            f"{kept} of {tried} frames" if tried else "the frames were not edited",
        ),
        Tile("Raw frame used", str(tried - kept), "after a rejection or a failure"),
        Tile("Episodes", str(len(store)), f"{store.n_steps} steps"),
        Tile("Camera frames", str(tally.frames), f"from {', '.join(tally.verdicts)}"),
    ]
    if tally.solved:
        solved = f"{sum(tally.solved)} of {len(tally.solved)}"
        tiles.append(Tile("Task solved", solved, "episodes"))
    return tuple(tiles)


def _camera_row(camera: str, counts: Counter[StepVerdict]) -> CameraRow:
    return CameraRow(
        camera=camera,
        frames=counts.total(),
        edited=counts["edited"] + counts["unjudged"],
        rejected=counts["rejected"],
        failed=counts["failed"],
    )


def _provenance(store: EpisodeStore, address: str) -> tuple[Provenance, ...]:
    metadata = store.metadata
    seeds = [str(seed) for seed in store.seeds[:MAX_EPISODES] if seed >= 0]
    if len(store) > MAX_EPISODES:
        seeds.append("…")
    cameras = [
        f"{name} ({', '.join(sorted(set(camera.names.values())))})"
        for name, camera in sorted(metadata.cameras.items())
        if camera.names
    ]
    facts: list[tuple[str, str]] = [
        ("Environment", metadata.env_id),
        ("Editor", metadata.editor_id or "none: raw frames"),
        ("Instruction", metadata.instruction),
        ("Episode seeds", ", ".join(seeds)),
        ("Objects by camera", "; ".join(cameras)),
        *(
            (key.replace("_", " ").capitalize(), as_text(v))
            for key, v in metadata.provenance.items()
        ),
        ("Store", f"{address} (zarr format {store.zarr_format})"),
        ("Content fingerprint", store.fingerprint()),
        ("Report written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    return tuple(Provenance(name, value) for name, value in facts if value)
