"""Camera matrices and depth buffers of OpenGL, in the terms of OpenCV.

OpenGL's camera looks along -z with y up; OpenCV's looks along +z with y down. Pixel coordinates
start at the outer corner of the top-left pixel, so that its centre is at (0.5, 0.5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spie_robo.errors import FrameError
from spie_robo.types import Geometry

FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns the axes of an OpenGL camera into those of an OpenCV camera, and back."""


def frustum_intrinsics(
    left: float, right: float, bottom: float, top: float, near: float, height: int, width: int
) -> NDArray[np.float64]:
    """Return the pinhole matrix of an OpenGL frustum, (3, 3), in pixels.

    Args:
        left: Where the near plane ends on the left, as in ``glFrustum``.
        right: The same on the right.
        bottom: The same at the bottom.
        top: The same at the top.
        near: Distance of the near plane.
        height: Rows of the picture.
        width: Columns of the picture.
    """
    fx, fy = width * near / (right - left), height * near / (top - bottom)
    cx, cy = -width * left / (right - left), height * top / (top - bottom)
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def projection_intrinsics(projection: ArrayLike, height: int, width: int) -> NDArray[np.float64]:
    """Return the pinhole matrix of an OpenGL projection matrix, (3, 3), in pixels.

    Args:
        projection: (4, 4), column-major when flat, as ``computeProjectionMatrixFOV`` gives it.
        height: Rows of the picture.
        width: Columns of the picture.
    """
    matrix = np.reshape(np.asarray(projection, np.float64), (4, 4)).T
    return np.array(
        [
            [matrix[0, 0] * width / 2, 0.0, (1 - matrix[0, 2]) * width / 2],
            [0.0, matrix[1, 1] * height / 2, (1 + matrix[1, 2]) * height / 2],
            [0.0, 0.0, 1.0],
        ]
    )


def view_extrinsics(view: ArrayLike) -> NDArray[np.float64]:
    """Return world to camera, OpenCV axes, (4, 4), of an OpenGL view matrix.

    Args:
        view: (4, 4), column-major when flat, as ``computeViewMatrix`` gives it.
    """
    return FROM_OPENGL @ np.reshape(np.asarray(view, np.float64), (4, 4)).T


def look_extrinsics(position: ArrayLike, forward: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
    """Return world to camera, OpenCV axes, (4, 4), of a camera that looks ``forward``.

    Args:
        position: (3,), in the world, metres.
        forward: (3,), where it looks.
        up: (3,), up in the picture, at a right angle to ``forward``.
    """
    ahead = np.asarray(forward, np.float64) / np.linalg.norm(forward)
    above = np.asarray(up, np.float64) / np.linalg.norm(up)
    rotation = np.stack([np.cross(ahead, above), -above, ahead])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ np.asarray(position, np.float64)
    return matrix


def depth_from_buffer(buffer: ArrayLike, projection: ArrayLike) -> NDArray[np.float32]:
    """Return metres along the optical axis, NaN where nothing was drawn.

    Args:
        buffer: OpenGL depth in 0..1, any shape.
        projection: The (4, 4) matrix, column-major when flat, that it was drawn with.
    """
    matrix = np.reshape(np.asarray(projection, np.float64), (4, 4)).T
    depth = np.asarray(buffer, np.float64)
    metres = matrix[2, 3] / (2.0 * depth - 1.0 + matrix[2, 2])
    return np.where(depth < 1.0, metres, np.nan).astype(np.float32)


def seen(depth: ArrayLike, farthest: float = np.inf) -> NDArray[np.float32]:
    """Return depth with NaN for every value that some simulator means "nothing" by.

    Args:
        depth: Metres along the optical axis: zero, negative, infinite and NaN are nothing.
        farthest: From here on, in metres, the simulator draws nothing.
    """
    metres = np.array(depth, np.float32)
    # A part in a thousand: a z-buffer is coarsest next to its far plane.
    nothing = ~np.isfinite(metres) | (metres <= 0) | (metres >= farthest * (1 - 1e-3))
    metres[nothing] = np.nan
    return metres


def project_points(points: ArrayLike, geometry: Geometry) -> NDArray[np.float64]:
    """Return where points of the world are in a picture.

    Args:
        points: (n, 3), metres.
        geometry: Geometry of the picture, with intrinsics and extrinsics.

    Returns:
        (n, 3): column and row in pixels, and depth in metres, negative behind the camera.

    Raises:
        FrameError: If the geometry lacks a matrix.
    """
    intrinsics, extrinsics = _known_matrices(geometry)
    world = np.asarray(points, np.float64)
    camera = world @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    pixels = camera @ intrinsics.T
    return np.column_stack([pixels[:, :2] / pixels[:, 2:], camera[:, 2]])


def world_points(geometry: Geometry) -> NDArray[np.float64]:
    """Return the point of the world that each pixel shows, (height, width, 3), metres.

    Args:
        geometry: Geometry of the picture, with depth, intrinsics and extrinsics.

    Returns:
        NaN where the depth is NaN.

    Raises:
        FrameError: If the geometry lacks depth or a matrix.
    """
    intrinsics, extrinsics = _known_matrices(geometry)
    if geometry.depth is None:
        raise FrameError("world_points: expected geometry with depth, got none.")
    rows, columns = np.mgrid[: geometry.depth.shape[0], : geometry.depth.shape[1]] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    camera = pixels @ np.linalg.inv(intrinsics).T * geometry.depth[..., None].astype(np.float64)
    world: NDArray[np.float64] = (camera - extrinsics[:3, 3]) @ extrinsics[:3, :3]
    return world


def _known_matrices(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if geometry.intrinsics is None or geometry.extrinsics is None:
        raise FrameError("Expected geometry with intrinsics and extrinsics, got one without.")
    return geometry.intrinsics, geometry.extrinsics
