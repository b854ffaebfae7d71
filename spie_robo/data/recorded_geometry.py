"""Which geometry the frames of a data set are judged against, and depth as sensors give it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.types import GeometryOrigin

Origin = Literal["simulator", "recorded", "estimated"]
"""Of the geometry: this package's own recording, a file from elsewhere, the judge's reading."""

MILLIMETRES = 1000.0


def geometry_origin(metadata: StoreMetadata, keys: Iterable[str], camera: str) -> Origin:
    """Where the geometry that edits of a camera are judged against comes from.

    Args:
        metadata: Of the episodes.
        keys: Of their arrays, without those that :func:`unused_geometry` names.
        camera: Name of the camera.

    Returns:
        ``"simulator"`` for depth or segmentation that was recorded with this package,
        ``"recorded"`` for those that a foreign file brought along, ``"estimated"`` where there is
        neither and the guard's judge reads the raw frame instead.
    """
    present = set(keys)
    if not present & {fields.depth_key(camera), fields.segmentation_key(camera)}:
        return "estimated"
    return recorder(metadata)


def unused_geometry(source: EpisodeSource, cameras: Iterable[str]) -> dict[str, str]:
    """Depth and segmentation that no edit can be judged against, by key, and why.

    Args:
        source: Episodes.
        cameras: The cameras to look at.
    """
    found = {}
    for camera in cameras if len(source) else ():
        planes = {fields.depth_key(camera), fields.segmentation_key(camera)} & set(source.keys)
        rows = source.read_rows(0, 0, 1, [fields.rgb_key(camera), *sorted(planes)])
        size = rows.pop(fields.rgb_key(camera)).shape[1:3]
        for key, plane in rows.items():
            if not _fits(plane.shape[1:], size):
                found[key] = (
                    f"{key} ({_sides(plane.shape[1:])}) is not used to judge edits: the image is "
                    f"{_sides(size)}, of another ratio of sides"
                )
    return found


def recorder(metadata: StoreMetadata) -> GeometryOrigin:
    """Whether depth and segmentation are this package's own recording, or a foreign file's."""
    return "recorded" if "source" in metadata.provenance else "simulator"


def metres(depth: NDArray[Any]) -> NDArray[np.float32]:
    """Depth in metres; whole numbers are millimetres, as depth cameras and PNG files have them.

    Args:
        depth: Any shape, float metres or unsigned millimetres.
    """
    if depth.dtype.kind in "iu":
        return (depth / MILLIMETRES).astype(np.float32)
    return depth.astype(np.float32, copy=False)


def fitted(plane: NDArray[Any] | None, size: tuple[int, ...]) -> NDArray[Any] | None:
    """A depth map or segmentation at the size of its image.

    Args:
        plane: (height, width), or None.
        size: (height, width) of the image.

    Returns:
        The plane, without interpolation between its values; None where its sides have another
        ratio than the image's, so that nobody knows which pixel is which.
    """
    if plane is None or plane.shape == size:
        return plane
    if not _fits(plane.shape, size):
        return None
    return np.asarray(cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_NEAREST))


def _fits(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a plane is of the same ratio of sides as its image."""
    return len(shape) == 2 and shape[0] * size[1] == shape[1] * size[0]


def _sides(shape: tuple[int, ...]) -> str:
    """Width and height, as people write them."""
    return "x".join(str(n) for n in shape[::-1])
