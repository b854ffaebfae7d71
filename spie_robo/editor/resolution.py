"""Shrink frames to the working resolution, and restore edits without losing fine detail.

``frame --shrink--> working image --edit--> edited working image --restore--> edited frame``

The result is not the enlarged edit, which would be soft, but the *frame itself* with its colours
mapped locally as the edit mapped them, by the fast guided filter (He, Sun, arXiv 1505.00996).
Edges, texture and geometry stay the frame's own.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.types import RGB

_RADIUS = 3  # windows of 7x7 working pixels
_DETAIL_RADIUS = 8  # windows of 17x17: so wide that an object's halo does not shape the map
_EPSILON = 1e-3  # squared contrast, in [0, 1] units, below which a window counts as flat
_FLAT_GAIN = (0.5, 2.0)  # limits of dimming or amplifying the frame's detail in a flat window

Pixels = NDArray[np.float32]
"""Image, float32 (h, w, 3)."""
Planes = NDArray[np.float32]
"""Stack of planes, float32 (..., h, w)."""
Plane = NDArray[np.float32]
"""One plane, float32 (h, w)."""


def working_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Return the size at which a frame is edited.

    Args:
        height: Height of the frame, pixels.
        width: Width of the frame, pixels.
        resolution: Side of a square with about as many pixels as the working image.
        multiple: Number that both sides must be multiples of.

    Returns:
        (height, width), with the frame's aspect ratio as closely as ``multiple`` allows; the
        frame's own size if that fits.
    """
    scale = resolution / math.sqrt(height * width)
    sides = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    working_height, working_width = sides
    return working_height, working_width


def shrink(image: RGB, size: tuple[int, int]) -> RGB:
    """Resize an image to (height, width) without aliasing; return it if it has that size."""
    if image.shape[:2] == size:
        return image
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size[::-1], interpolation=interpolation), dtype=np.uint8)


def restore(edit: RGB, frame: RGB) -> RGB:
    """Resize an edit to the size of its frame, with the frame's detail.

    Args:
        edit: uint8 (h, w, 3), the edited working image.
        frame: uint8 (H, W, 3), the raw frame.

    Returns:
        uint8 (H, W, 3): ``edit`` itself if the sizes are equal; the smaller edit if the frame is
        smaller; otherwise the frame under the edit's local affine colour map.
    """
    size = frame.shape[:2]
    if edit.shape[:2] == size or size[0] * size[1] <= edit.shape[0] * edit.shape[1]:
        return shrink(edit, (size[0], size[1]))
    source = _unit(shrink(frame, (edit.shape[0], edit.shape[1])))
    gain, offset = _local_affine_map(source, _unit(edit), _RADIUS)
    return _bytes(_apply_map(_unit(frame), _enlarge(gain, size), _enlarge(offset, size)))


def hold_detail(edit: RGB, frame: RGB, share: float) -> RGB:
    """Replace a share of an edit's fine structure by the frame's.

    The edit is blended with the frame under the edit's local affine colour map. That image has the
    frame's edges; it has no grain that the map cannot express, and no texture that the edit added.

    Args:
        edit: uint8 (h, w, 3).
        frame: uint8 (h, w, 3), the raw frame at the same size.
        share: 0 returns the edit, 1 the recoloured frame.

    Returns:
        uint8 (h, w, 3).
    """
    if share == 0:
        return edit
    source, target = _unit(frame), _unit(edit)
    recoloured = _apply_map(source, *_local_affine_map(source, target, _DETAIL_RADIUS))
    return _bytes((1 - share) * target + share * recoloured)


def _apply_map(image: Pixels, gain: Planes, offset: Planes) -> Pixels:
    channels = _channels(image)
    return np.stack([_dot(channels, gain[:, j]) + offset[j] for j in range(3)], axis=-1)


def _bytes(image: Pixels) -> RGB:
    return np.asarray((image.clip(0, 1) * 255).round(), dtype=np.uint8)


def _local_affine_map(source: Pixels, target: Pixels, radius: int) -> tuple[Planes, Planes]:
    """Fit ``target = source @ gain + offset`` in every window by least squares.

    With window means <.>, as in the guided filter paper for colour images::

        gain = (<s s'> - <s><s>' + eps I)^-1 (<s t'> - <s><t>' + eps g I)      (3, 3)
        offset = <t> - <s>' gain                                               (3,)

    Gains and offsets are averaged at each pixel. In the paper g = 0: where a window of the
    *working* image is flat, detail that only the full frame has would be lost. Here g is the
    window's change of brightness, so that such detail is dimmed like its surroundings.

    Returns:
        (3, 3, h, w) and (3, h, w). Whole planes take a quarter of the time of a small matrix for
        each pixel.
    """
    s, t = _channels(source), _channels(target)
    mean_s, mean_t = _window_mean(s, radius), _window_mean(t, radius)
    brightness = mean_t.sum(axis=0) / np.maximum(mean_s.sum(axis=0), np.float32(1e-3))
    ridge = _EPSILON * brightness.clip(*_FLAT_GAIN)
    covariance, cross = np.empty((2, 3, *s.shape), np.float32)
    for i in range(3):
        covariance[i] = _window_mean(s[i] * s, radius) - mean_s[i] * mean_s
        cross[i] = _window_mean(s[i] * t, radius) - mean_s[i] * mean_t
        covariance[i, i] += _EPSILON
        cross[i, i] += ridge
    gain = _solve(covariance, cross)
    offset = mean_t - np.stack([_dot(mean_s, gain[:, j]) for j in range(3)])
    return _window_mean(gain, radius), _window_mean(offset, radius)


def _solve(matrix: Planes, right: Planes) -> Planes:
    """Solve ``matrix @ x = right`` at every pixel, by ``matrix = L D L'``.

    Args:
        matrix: (3, 3, h, w), symmetric and positive definite.
        right: (3, 3, h, w).

    Returns:
        (3, 3, h, w).
    """
    d0 = matrix[0, 0]
    l10, l20 = matrix[1, 0] / d0, matrix[2, 0] / d0
    d1 = matrix[1, 1] - l10 * matrix[1, 0]
    l21 = (matrix[2, 1] - l20 * matrix[1, 0]) / d1
    d2 = matrix[2, 2] - l20 * matrix[2, 0] - l21 * l21 * d1
    y1 = right[1] - l10 * right[0]
    y2 = right[2] - l20 * right[0] - l21 * y1
    x2 = y2 / d2
    x1 = y1 / d1 - l21 * x2
    return np.stack([right[0] / d0 - l10 * x1 - l20 * x2, x1, x2])


def _dot(first: Planes, second: Planes) -> Plane:
    """Return the inner product at every pixel, (3, h, w) each."""
    product: Plane = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return product


def _window_mean(planes: Planes, radius: int) -> Planes:
    side = 2 * radius + 1
    means = np.empty_like(planes)
    for plane, mean in zip(_flat(planes), _flat(means), strict=True):
        cv2.boxFilter(plane, -1, (side, side), mean, borderType=cv2.BORDER_REFLECT)
    return means


def _enlarge(planes: Planes, size: tuple[int, ...]) -> Planes:
    enlarged = np.empty((*planes.shape[:-2], *size), np.float32)
    for plane, large in zip(_flat(planes), _flat(enlarged), strict=True):
        cv2.resize(plane, (size[1], size[0]), large, interpolation=cv2.INTER_LINEAR)
    return enlarged


def _flat(planes: Planes) -> Planes:
    """View planes as (n, h, w) in the same memory."""
    return planes.reshape(-1, *planes.shape[-2:])


def _channels(image: Pixels) -> Planes:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _unit(image: RGB) -> Pixels:
    return np.asarray(image, dtype=np.float32) / np.float32(255)
