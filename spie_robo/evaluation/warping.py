"""Measure the warping error: the change of colour, frame to frame, of points that stand still.

``two geometries -> static_flow() -> Flow``; ``two images and two geometries -> warping_error()``;
``edits and raw frames of an episode -> warping_ratio()``. Unlike flicker it also works with a
moving camera, such as a wrist camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.guard.roles import is_surface
from spie_robo.types import RGB, Frame, Geometry

LEAST_ERROR = 0.5 / 255
"""Smallest error to divide by: half a grey level, which rounding alone may change a raw frame."""

LEAST_PIXELS = 64
"""Fewest valid pixels of a measurement."""

_SAME_DEPTH = 0.01
"""Largest difference, as a share, of two depths of one surface."""

_SUBPIXEL = 3
"""Decimals of a position, so that rounding errors do not separate equal pixels."""


@dataclass(frozen=True, eq=False)
class Flow:
    """The motion of the static points of one frame to the next frame.

    Attributes:
        displacement: float64, (height, width, 2), columns to the right and rows down, in pixels;
            NaN where depth is unknown or the point is behind the next frame's camera.
        valid: bool, (height, width), True where the point is static and visible in both frames.
    """

    displacement: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Camera:
    """The parts of a geometry that an exact flow needs."""

    depth: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    extrinsics: NDArray[np.float64]


def static_flow(before: Geometry, after: Geometry) -> Flow:
    """Compute the exact flow of static points while the camera moves.

    A pixel's depth gives its point in the world, which the other camera sees at another place.

    A pixel is valid if its point is in view of the next frame, that frame's depth there equals the
    point's to 1 % (else another object hides it), and the point is static. Static are the surfaces
    that the segmentation names (table, wall, floor, ...; see
    :func:`spie_robo.feedback.surroundings`); the four pixels around the new place must show the
    same surface. Robot and objects are left out, moving or not. **If no surface is named**, every
    pixel that passes the depth check counts as static; this includes objects that move along their
    own surface, and objects so thin that their depth is the background's.

    Args:
        before: Depth (height, width) in metres, intrinsics, extrinsics, and segmentation and names
            if known.
        after: The same of this camera's next frame; equal ids mean equal objects.

    Returns:
        The flow from ``before`` to ``after``.

    Raises:
        FrameError: If depth, intrinsics or extrinsics are unknown, or the sizes differ.
    """
    source, target = _camera(before, "before"), _camera(after, "after")
    if source.depth.shape != target.depth.shape:
        raise FrameError(
            f"Expected two depths of one size, got {source.depth.shape} and {target.depth.shape}."
        )
    height, width = source.depth.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    moved, depth = _project(columns, rows, source, target)
    displacement = moved - np.stack([columns, rows], axis=2)
    x, y = moved[..., 0], moved[..., 1]
    with np.errstate(invalid="ignore"):
        in_view = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    # Inverse depth is linear along a plane's image, so interpolation between its pixels is exact.
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = 1 / _sample(1 / target.depth, moved, in_view)
        same_depth = np.abs(seen - depth) <= _SAME_DEPTH * depth
    return Flow(displacement, in_view & same_depth & _static(before, after, moved, in_view))


def warping_error(
    rgb_before: RGB, rgb_after: RGB, geometry_before: Geometry, geometry_after: Geometry
) -> float:
    """Return the mean change of colour of static points from one frame to the next.

    The later image is sampled (bilinearly) at the place to which :func:`static_flow` moves each
    pixel of the earlier one; moving objects and hidden points are left out as described there. The
    error of raw frames is above 0: sampling between pixels blurs texture, and shadows move.

    Args:
        rgb_before: uint8, (height, width, 3).
        rgb_after: uint8, (height, width, 3).
        geometry_before: Geometry of the earlier frame, raw or edited.
        geometry_after: Geometry of the later frame, raw or edited.

    Returns:
        Mean absolute difference over valid pixels and channels, 0 (steady) to 1; NaN if fewer than
        64 pixels are valid.

    Raises:
        FrameError: If sizes differ, or depth, intrinsics or extrinsics are unknown.
    """
    return _error(rgb_before, rgb_after, static_flow(geometry_before, geometry_after))


def warping_ratio(edits: Sequence[RGB], frames: Sequence[Frame]) -> float:
    """Return the warping error of edits over that of their raw frames.

    It is a ratio of means over the pairs of successive frames, both over the same pixels. A raw
    mean below half a grey level (0.5/255) counts as half a grey level: where the camera stands
    still, or each surface has one colour as in plainly rendered scenes, the raw error is almost 0,
    and the ratio is then the edits' change in half grey levels. Blurred edits change little, so
    compare also :func:`spie_robo.evaluation.gradient.gradient_ratio`.

    Args:
        edits: uint8, (height, width, 3) each, in the order of ``frames``.
        frames: Successive raw frames of one camera, with geometry.

    Returns:
        1 if edits are as steady as the raw frames, above 1 if less steady, never below 0; NaN if no
        pair has enough valid pixels, or there are fewer than two frames.

    Raises:
        FrameError: If numbers, sizes or cameras differ, or depth, intrinsics or extrinsics are
            unknown.
    """
    if len(edits) != len(frames):
        raise FrameError(f"Expected one edit a frame: {len(frames)} frames, {len(edits)} edits.")
    cameras = sorted({frame.camera for frame in frames})
    if len(cameras) > 1:
        raise FrameError(f"Expected the frames of one camera, got {cameras}. Measure each alone.")
    known = [frame.geometry or Geometry() for frame in frames]
    edited, raw = [], []
    for i in range(1, len(frames)):
        flow = static_flow(known[i - 1], known[i])
        edited.append(_error(edits[i - 1], edits[i], flow))
        raw.append(_error(frames[i - 1].rgb, frames[i].rgb, flow))
    measured = ~np.isnan(raw)  # a pair's edits and raw frames share their valid pixels
    if not measured.any():
        return math.nan
    expected = max(float(np.mean(np.array(raw)[measured])), LEAST_ERROR)
    return float(np.mean(np.array(edited)[measured])) / expected


def _error(before: RGB, after: RGB, flow: Flow) -> float:
    height, width = flow.valid.shape
    for image in (before, after):
        if image.shape != (height, width, 3):
            raise FrameError(
                f"Expected images of shape {(height, width, 3)} like their depth, "
                f"got {image.shape}."
            )
    if np.count_nonzero(flow.valid) < LEAST_PIXELS:
        return math.nan
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    moved = flow.displacement + np.stack([columns, rows], axis=2)
    warped = _sample(after.astype(np.float64), moved, flow.valid)
    change = np.abs(warped - before)[flow.valid]
    return float(change.mean()) / 255


def _camera(geometry: Geometry, which: str) -> _Camera:
    depth, intrinsics, extrinsics = geometry.depth, geometry.intrinsics, geometry.extrinsics
    if depth is None or intrinsics is None or extrinsics is None:
        known = {"depth": depth, "intrinsics": intrinsics, "extrinsics": extrinsics}
        missing = " and ".join(name for name, value in known.items() if value is None)
        raise FrameError(
            f"Geometry {which}: the flow of a frame needs depth, intrinsics and extrinsics; "
            f"{missing} unknown. Record them with the frames, or measure flicker instead."
        )
    metres = depth.astype(np.float64)
    metres[~(metres > 0)] = math.nan
    return _Camera(metres, intrinsics.astype(np.float64), extrinsics.astype(np.float64))


def _project(
    columns: NDArray[np.float64], rows: NDArray[np.float64], source: _Camera, target: _Camera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return columns and rows (H, W, 2) of the pixels in the target, and their depth there."""
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        points = pixels @ np.linalg.inv(source.intrinsics).T * source.depth[..., None]
        motion = target.extrinsics @ np.linalg.inv(source.extrinsics)
        points = points @ motion[:3, :3].T + motion[:3, 3]
        points[~(points[..., 2] > 0)] = math.nan
        seen = points @ target.intrinsics.T
        moved = seen[..., :2] / seen[..., 2:] - 0.5
    moved[~np.isfinite(moved).all(axis=2)] = math.nan
    return np.round(moved, _SUBPIXEL), points[..., 2]


def _corners(
    moved: NDArray[np.float64], where: NDArray[np.bool_]
) -> tuple[list[tuple[NDArray[np.intp], NDArray[np.intp]]], list[NDArray[np.float64]]]:
    """Return rows and columns of the pixels around each place, and weights; pixel 0 elsewhere."""
    place = np.where(where[..., None], moved, 0.0)
    low, high = np.floor(place).astype(np.intp), np.ceil(place).astype(np.intp)
    rest = np.subtract(place, low, dtype=np.float64)
    across, down = rest[..., 0], rest[..., 1]
    indices = [(y[..., 1], x[..., 0]) for y in (low, high) for x in (low, high)]
    weights = [v * h for v in (1 - down, down) for h in (1 - across, across)]
    return indices, weights


def _sample(
    image: NDArray[np.float64], moved: NDArray[np.float64], where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Interpolate the image, (H, W) or (H, W, C); values outside ``where`` are arbitrary."""
    indices, weights = _corners(moved, where)
    sampled = np.zeros_like(image)
    for index, weight in zip(indices, weights, strict=True):
        sampled += image[index] * (weight[..., None] if image.ndim == 3 else weight)
    return sampled


def _static(
    before: Geometry, after: Geometry, moved: NDArray[np.float64], in_view: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the points on a named surface in both frames; all points if none is named."""
    surfaces = [instance for instance, name in before.names.items() if is_surface(name)]
    if before.segmentation is None or after.segmentation is None or not surfaces:
        return np.ones_like(in_view)
    static = np.isin(before.segmentation, surfaces)
    for index in _corners(moved, in_view)[0]:
        static &= after.segmentation[index] == before.segmentation
    return static
