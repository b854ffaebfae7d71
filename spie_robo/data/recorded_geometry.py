"""Find the geometry that frames of a data set are judged against, and read sensors' depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.source_record import DEPTH_RANGE, LOSSY
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.types import GeometryOrigin

Origin = Literal["simulator", "recorded", "estimated"]
"""Origin of a geometry: recorded by this package, read from a foreign file, or estimated."""

MILLIMETRES = 1000.0


def geometry_origin(metadata: StoreMetadata, keys: Iterable[str], camera: str) -> Origin:
    """Return the origin of the geometry that a camera's edits are judged against.

    Args:
        metadata: Metadata of the episodes.
        keys: Keys of their arrays, without those that :func:`unusable_geometry` returns.
        camera: Name of the camera.

    Returns:
        ``"simulator"`` for depth or segmentation that was recorded with this package,
        ``"recorded"`` for those that a foreign file holds, ``"estimated"`` where both are missing
        and the raw frame's own edges stand in for them.
    """
    present = set(keys)
    if not present & {fields.depth_key(camera), fields.segmentation_key(camera)}:
        return "estimated"
    return recorder(metadata)


def unusable_geometry(source: EpisodeSource, cameras: Iterable[str]) -> dict[str, str]:
    """Return the depth and segmentation that edits cannot be judged against, with the reason.

    Args:
        source: The episodes.
        cameras: Names of the cameras to check.

    Returns:
        One reason for each key; empty if all geometry is usable.
    """
    found = {}
    lossy = foreign_extras(source.metadata, LOSSY)
    for camera in cameras if len(source) else ():
        planes = {fields.depth_key(camera), fields.segmentation_key(camera)} & set(source.keys)
        rows = source.read_rows(0, 0, 1, [fields.rgb_key(camera), *sorted(planes)])
        size = rows.pop(fields.rgb_key(camera)).shape[1:3]
        for key, plane in rows.items():
            if key in lossy:
                found[key] = f"{key} is not used to judge edits: it was kept lossily ({lossy[key]})"
            elif not _fits(plane.shape[1:], size):
                found[key] = (
                    f"{key} ({_sides(plane.shape[1:])}) is not used to judge edits: the image is "
                    f"{_sides(size)}, of another ratio of sides"
                )
    return found


def recorder(metadata: StoreMetadata) -> GeometryOrigin:
    """Return who recorded depth and segmentation: this package or the writer of a foreign file."""
    return "recorded" if "source" in metadata.provenance else "simulator"


def foreign_extras(metadata: StoreMetadata, name: str) -> Mapping[str, Any]:
    """Return a foreign source's notes on its arrays, by key, from one of its extras."""
    source = metadata.provenance.get("source")
    extras = source.get("extras") if isinstance(source, Mapping) else None
    told = extras.get(name) if isinstance(extras, Mapping) else None
    return told if isinstance(told, Mapping) else {}


def known_depth(metadata: StoreMetadata, key: str, depth: NDArray[Any]) -> NDArray[np.float32]:
    """Return depth in metres, 0 where nothing was measured.

    Depth that was stored as codes between two bounds is unknown at both of them: "no reading" was
    stored as the lower bound, and everything farther as the upper one.

    Args:
        metadata: Metadata of the episodes.
        key: Key of the depth.
        depth: Array of any shape, float metres or unsigned millimetres.
    """
    found = metres(depth)
    bounds = foreign_extras(metadata, DEPTH_RANGE).get(key)
    if not isinstance(bounds, list) or len(bounds) != 2:
        return found
    low, high = (np.float32(bound) for bound in bounds)
    return np.where((found > low) & (found < high), found, np.float32(0))


def metres(depth: NDArray[Any]) -> NDArray[np.float32]:
    """Return depth in metres; whole numbers are millimetres, as depth cameras give them.

    Args:
        depth: Array of any shape, float metres or unsigned millimetres.
    """
    if depth.dtype.kind in "iu":
        return (depth / MILLIMETRES).astype(np.float32)
    return depth.astype(np.float32, copy=False)


def fitted(plane: NDArray[Any] | None, size: tuple[int, ...]) -> NDArray[Any] | None:
    """Resize a depth map or segmentation to the size of its image.

    Args:
        plane: (height, width), or None.
        size: (height, width) of the image.

    Returns:
        The plane, by nearest neighbour; None where its ratio of sides is not the image's, because
        its pixels cannot be matched then.
    """
    if plane is None or plane.shape == size:
        return plane
    if not _fits(plane.shape, size):
        return None
    return np.asarray(cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_NEAREST))


def _fits(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Return whether a plane has the ratio of sides of its image."""
    return len(shape) == 2 and shape[0] * size[1] == shape[1] * size[0]


def _sides(shape: tuple[int, ...]) -> str:
    """Return width and height as text, e.g. ``64x48``."""
    return "x".join(str(n) for n in shape[::-1])
