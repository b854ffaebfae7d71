"""Measures whether a picture and its geometry fit each other.

Use it when you connect a simulator of your own: a picture that is turned against its depth makes
the guard reject every edit.
"""

from __future__ import annotations

import numpy as np

from spie_robo.errors import FrameError
from spie_robo.simulators.orientation import (
    BOTTOM_ROW_FIRST,
    MIRRORED,
    ROTATED,
    UPRIGHT,
    Orientation,
)
from spie_robo.types import RGB, Geometry


def outline_contrast(image: RGB, geometry: Geometry) -> float:
    """Return how much stronger the picture's edges are along true outlines than elsewhere.

    Args:
        image: uint8, (height, width, 3).
        geometry: With a segmentation of that size, or else depth.

    Returns:
        The mean gradient along the outlines over that of the whole picture: about 1 where the two
        have nothing to do with each other, 2 and more where they fit.

    Raises:
        FrameError: If there is neither segmentation nor depth.
    """
    import cv2  # not at the top: wrapping an env stays cheap

    outlines = _outlines(geometry)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    if not outlines.any() or not gradient.any():
        return 1.0
    return float(gradient[outlines].mean() / gradient.mean())


def best_orientation(image: RGB, geometry: Geometry) -> Orientation:
    """Return the turn of an env's picture with which it fits upright geometry best.

    Args:
        image: uint8, (height, width, 3), as the env gives it.
        geometry: Geometry of the upright picture.

    Raises:
        FrameError: If there is neither segmentation nor depth.
    """
    turns = (UPRIGHT, BOTTOM_ROW_FIRST, MIRRORED, ROTATED)
    return max(turns, key=lambda turn: outline_contrast(turn.turn(image), geometry))


def _outlines(geometry: Geometry) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which pixels lie on either side of an outline, (height, width)."""
    plane = geometry.segmentation if geometry.segmentation is not None else geometry.depth
    if plane is None:
        raise FrameError("Expected geometry with segmentation or depth, got neither.")
    if plane.dtype.kind == "f":  # a step of more than a twentieth of the distance
        plane = np.nan_to_num(np.floor(np.log(plane) * 20), nan=-1e6)
    found = np.zeros(plane.shape, np.bool_)
    for axis in (0, 1):
        steps = np.diff(plane, axis=axis) != 0
        pad = [(0, 0), (0, 0)]
        pad[axis] = (0, 1)
        found |= np.pad(steps, pad)
        pad[axis] = (1, 0)
        found |= np.pad(steps, pad)
    return found
