"""Frames of any size: down to the working resolution, and back without losing fine detail.

``frame --shrink--> working image --edit--> edited working image --restore--> edited frame``

What comes back is not the enlarged edit, which would be soft, but the *frame itself* with its
colours mapped as the edit mapped them, locally: the fast guided filter (He, Sun, arXiv
1505.00996). Edges and texture are the frame's own; so is the geometry.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.types import RGB

_RADIUS = 3  # windows of 7x7 working pixels
_DETAIL_RADIUS = 8  # windows of 17x17: wide enough that an object's halo does not shape the map
_EPSILON = 1e-3  # squared contrast, in [0, 1] units, below which a window counts as flat
_FLAT_GAIN = (0.5, 2.0)  # how far a flat window may dim or amplify the frame's detail

Plane = NDArray[np.float32]


def working_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """The size at which a frame is edited.

    Args:
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        resolution: The working image has about ``resolution * resolution`` pixels.
        multiple: What both sides must be multiples of.

    Returns:
        (height, width), with the frame's aspect ratio as nearly as ``multiple`` allows; the
        frame's own size where that fits.
    """
    scale = resolution / math.sqrt(height * width)
    sides = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    working_height, working_width = sides
    return working_height, working_width


def shrink(image: RGB, size: tuple[int, int]) -> RGB:
    """Resize an image to (height, width), without aliasing; itself if it has that size."""
    if image.shape[:2] == size:
        return image
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size[::-1], interpolation=interpolation), dtype=np.uint8)


def restore(edit: RGB, frame: RGB) -> RGB:
    """Bring an edit back to the size of its frame.

    Args:
        edit: uint8 (h, w, 3), the edited working image.
        frame: uint8 (H, W, 3), the raw frame.

    Returns:
        uint8 (H, W, 3): ``edit`` itself if the sizes are equal; the shrunken edit if the frame
        is the smaller one; the frame under the edit's local affine colour map otherwise.
    """
    size = frame.shape[:2]
    if edit.shape[:2] == size or size[0] * size[1] <= edit.shape[0] * edit.shape[1]:
        return shrink(edit, (size[0], size[1]))
    source = _unit(shrink(frame, (edit.shape[0], edit.shape[1])))
    gain, offset = _local_affine_map(source, _unit(edit), _RADIUS)
    return _bytes(_apply_map(_unit(frame), _enlarge(gain, size), _enlarge(offset, size)))


def hold_detail(edit: RGB, frame: RGB, share: float) -> RGB:
    """Take a share of an edit's fine structure from the frame itself.

    The other image is the frame under the edit's local affine colour map: its edges are the
    frame's own, and grain that the map cannot express is gone; so is texture that the edit added.

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


def _apply_map(image: Plane, gain: Plane, offset: Plane) -> Plane:
    matrices = gain.reshape(*image.shape[:2], 3, 3)
    return np.asarray(np.einsum("hwi,hwij->hwj", image, matrices) + offset, dtype=np.float32)


def _bytes(image: Plane) -> RGB:
    return np.asarray((image.clip(0, 1) * 255).round(), dtype=np.uint8)


def _local_affine_map(source: Plane, target: Plane, radius: int) -> tuple[Plane, Plane]:
    """Least squares ``target = source @ gain + offset`` in every window, averaged per pixel.

    With window means <.>, as in the guided filter paper for colour images::

        gain = (<s s'> - <s><s>' + eps I)^-1 (<s t'> - <s><t>' + eps g I)      (3, 3)
        offset = <t> - <s>' gain                                               (3,)

    In the paper g = 0: where a window of the *working* image is flat, detail that only the full
    frame has would be lost. Here g is the window's change of brightness, so that such detail is
    dimmed as its surroundings are.

    Returns:
        (h, w, 9) and (h, w, 3).
    """
    height, width = source.shape[:2]
    mean_s, mean_t = _window_mean(source, radius), _window_mean(target, radius)
    covariance = _window_mean(_outer(source, source), radius) - _outer(mean_s, mean_s)
    cross = _window_mean(_outer(source, target), radius) - _outer(mean_s, mean_t)
    brightness = mean_t.sum(axis=2) / np.maximum(mean_s.sum(axis=2), 1e-3)
    identity = _EPSILON * np.eye(3, dtype=np.float32)
    ridge = identity * brightness.clip(*_FLAT_GAIN)[..., None, None]
    gain = np.linalg.solve(
        covariance.reshape(height, width, 3, 3) + identity,
        cross.reshape(height, width, 3, 3) + ridge,
    ).astype(np.float32)
    offset = mean_t - np.einsum("hwi,hwij->hwj", mean_s, gain)
    return _window_mean(gain.reshape(height, width, 9), radius), _window_mean(offset, radius)


def _window_mean(planes: Plane, radius: int) -> Plane:
    side = 2 * radius + 1
    mean = cv2.boxFilter(planes, -1, (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(mean, dtype=np.float32)


def _outer(first: Plane, second: Plane) -> Plane:
    products = first[..., :, None] * second[..., None, :]
    return products.reshape(*first.shape[:2], 9)


def _enlarge(planes: Plane, size: tuple[int, ...]) -> Plane:
    channels = [
        cv2.resize(planes[..., i], (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        for i in range(planes.shape[2])
    ]
    return np.stack([np.asarray(channel, dtype=np.float32) for channel in channels], axis=-1)


def _unit(image: RGB) -> Plane:
    return np.asarray(image, dtype=np.float32) / np.float32(255)
