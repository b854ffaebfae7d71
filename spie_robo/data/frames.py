"""Draw single frames from recorded episodes, for training and for judging.

``store or folder of pictures -> sample_frames() -> list of Frame``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.pictures import picture_size
from spie_robo.data.formats.source_record import LOSSY
from spie_robo.data.recorded_geometry import fitted, foreign_extras, known_depth, recorder
from spie_robo.data.store import fields
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.metadata import CameraMetadata, StoreMetadata
from spie_robo.errors import ConfigError, FrameError, StoreError
from spie_robo.types import Frame, Geometry

_PICTURES = (".jpg", ".jpeg", ".png")
_STORE_FILES = ("zarr.json", ".zgroup")


class _Place(NamedTuple):
    """The place of a frame; places sort in the order of the store."""

    episode: int
    step: int
    camera: str


def sample_frames(
    store: str | Path, count: int, *, cameras: Sequence[str] = (), seed: int = 0
) -> list[Frame]:
    """Draw raw frames, evenly over episodes and cameras and at random over time.

    Every pair of an episode and a camera gives equally many frames, as far as its length allows;
    the frames of a pair come from equal stretches of the episode, one from each.

    Args:
        store: An episode store, or a folder of PNG and JPEG pictures, which have no geometry.
        count: Number of frames to draw; all frames if there are fewer.
        cameras: Cameras to draw from; empty: all of the store.
        seed: Seed of the draw: equal arguments give equal frames.

    Returns:
        The simulator's frames, in the order of the store, even if it also holds edits. Their
        geometry has the depth, segmentation, names, intrinsics and extrinsics of the store.

    Raises:
        StoreError: If there is no store, or it has no camera, no such camera, or no episode.
        StoreCorruptError: If a frame that is read is damaged.
        FrameError: If a picture of a folder cannot be read.
        ConfigError: If ``count`` is below one.
    """
    if count < 1:
        raise ConfigError(f"count: expected 1 or more frames, got {count}.")
    path = Path(store)
    generator = np.random.default_rng(seed)
    pictures = _pictures(path)
    if pictures:
        return [_read_picture(pictures[i]) for i in _spread(len(pictures), count, generator)]
    source = EpisodeStore.open(path)
    chosen = _choose_cameras(source, cameras)
    lengths = [source.episode_length(episode) for episode in range(len(source))]
    places = _draw(lengths, chosen, count, generator)
    return [_read_frame(source, place) for place in places]


def camera_frames(
    metadata: StoreMetadata, rows: Mapping[str, NDArray[Any]], camera: str
) -> list[Frame]:
    """Return the raw frames of one camera, each with its geometry from the store.

    Args:
        metadata: Metadata of the store.
        rows: Arrays of consecutive steps, as :meth:`EpisodeStore.read_rows` gives them.
        camera: Name of the camera.

    Returns:
        One frame a step; its geometry is None without depth and segmentation. Whole numbers are
        read as depth in millimetres; depth and segmentation are resized to the image.
    """
    raw = rows.get(fields.raw_key(camera))
    raw = rows[fields.rgb_key(camera)] if raw is None else raw
    known = metadata.cameras.get(camera, CameraMetadata())
    depth_name, ids_name = fields.depth_key(camera), fields.segmentation_key(camera)
    lossy = foreign_extras(metadata, LOSSY)
    depth = None if depth_name in lossy else rows.get(depth_name)
    segmentation = None if ids_name in lossy else rows.get(ids_name)
    extrinsics = rows.get(fields.extrinsics_key(camera))
    frames = []
    for t, rgb in enumerate(raw):
        size = rgb.shape[:2]
        known_here = None if depth is None else known_depth(metadata, depth_name, depth[t])
        depth_map = fitted(known_here, size)
        ids = None if segmentation is None else fitted(segmentation[t], size)
        geometry = Geometry(
            depth=depth_map,
            segmentation=ids,
            names=known.names,
            intrinsics=known.intrinsics_array(),
            extrinsics=None if extrinsics is None else extrinsics[t].astype(np.float64),
            origin=recorder(metadata),
        )
        nothing = depth_map is None and ids is None
        frames.append(Frame(rgb, camera, None if nothing else geometry))
    return frames


def _choose_cameras(source: EpisodeStore, wanted: Sequence[str]) -> tuple[str, ...]:
    present = fields.cameras_of(source.keys)
    if not present:
        raise StoreError(
            f"{source.path}: expected cameras (frames under <camera>_rgb), found none among "
            f"{list(source.keys)}. Record an environment with cameras."
        )
    unknown = sorted(set(wanted) - set(present))
    if unknown:
        raise StoreError(f"{source.path}: it has no camera {unknown}. It has {list(present)}.")
    if not source.n_steps:
        raise StoreError(f"{source.path}: expected finished episodes, found none.")
    return tuple(camera for camera in present if not wanted or camera in wanted)


def _draw(
    lengths: Sequence[int], cameras: Sequence[str], count: int, generator: np.random.Generator
) -> list[_Place]:
    """Deal ``count`` frames out to (episode, camera) pairs, then draw the steps of each pair."""
    episodes = generator.permutation(len(lengths))
    # In the first round every episode gives one frame, and cameras take turns.
    pairs = [
        (int(episode), cameras[(position + turn) % len(cameras)])
        for turn in range(len(cameras))
        for position, episode in enumerate(episodes)
    ]
    shares = _deal([lengths[episode] for episode, _ in pairs], count)
    return sorted(
        _Place(episode, step, camera)
        for (episode, camera), share in zip(pairs, shares, strict=True)
        for step in _spread(lengths[episode], share, generator)
    )


def _deal(room: Sequence[int], count: int) -> list[int]:
    """Return the share of ``count`` that each pair gets: one each in turn while it has room."""
    left = min(count, sum(room))
    shares = [0] * len(room)
    while left:
        open_pairs = [i for i, size in enumerate(room) if shares[i] < size]
        rounds = max(1, min(left // len(open_pairs), min(room[i] - shares[i] for i in open_pairs)))
        for i in open_pairs[:left]:
            shares[i] += rounds
            left -= rounds
    return shares


def _spread(length: int, count: int, generator: np.random.Generator) -> list[int]:
    """Return one random index from each of ``count`` equal stretches of a range, ascending."""
    count = min(count, length)
    edges = [length * k // count for k in range(count + 1)] if count else [0]
    return [int(generator.integers(a, b)) for a, b in pairwise(edges)]


def _read_frame(source: EpisodeStore, place: _Place) -> Frame:
    camera = place.camera
    raw, rgb = fields.raw_key(camera), fields.rgb_key(camera)
    known = (fields.depth_key(camera), fields.segmentation_key(camera))
    keys = [raw if raw in source.keys else rgb]
    keys += [key for key in (*known, fields.extrinsics_key(camera)) if key in source.keys]
    rows = source.read_rows(place.episode, place.step, place.step + 1, keys)
    return camera_frames(source.metadata, rows, camera)[0]


def _pictures(path: Path) -> list[Path]:
    """Return the pictures of a folder that is not a store, sorted by name."""
    if not path.is_dir() or any((path / name).exists() for name in _STORE_FILES):
        return []
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in _PICTURES and not file.name.startswith(".")
    )


def _read_picture(file: Path) -> Frame:
    try:
        limits.check_size(str(file), file.stat().st_size)
        data = file.read_bytes()
        picture_size(str(file), data)  # a small file can unpack to gigabytes
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (StoreError, OSError, cv2.error) as error:
        raise FrameError(
            f"{file}: cannot be read as a PNG or JPEG picture ({error}). Take it out of the folder."
        ) from error
    if bgr is None:
        raise FrameError(
            f"{file}: cannot be read as a PNG or JPEG picture. Take it out of the folder."
        )
    return Frame(np.ascontiguousarray(bgr[..., ::-1]), file.stem)
