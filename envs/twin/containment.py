"""Is a camera inside a shape? Simulators draw no back faces, and so look out through it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Shape


def surrounds(shape: Shape, point: NDArray[np.float64]) -> bool:
    """Return whether a point is inside a shape.

    Args:
        shape: Any shape; a mesh from a file counts as empty.
        point: float64, (3,), metres, world frame.
    """
    local = np.linalg.solve(shape.pose, [*point, 1.0])[:3]
    size = np.array(shape.size, np.float64)
    if shape.kind == "mesh":
        if shape.triangles is None:
            return False
        return _inside_mesh(shape.triangles.vertices * size.astype(np.float32), local)
    if shape.kind == "box":
        return bool((np.abs(local) < size / 2).all())
    if shape.kind in ("sphere", "ellipsoid"):
        return bool(np.square(local / size).sum() < 1)
    length, radius = size
    if shape.kind == "capsule":
        beyond = max(0.0, abs(local[2]) - length / 2)
        return bool(np.hypot(*local[:2]) ** 2 + beyond**2 < radius**2)
    return bool(np.hypot(*local[:2]) < radius and abs(local[2]) < length / 2)


def _inside_mesh(vertices: NDArray[np.float32], point: NDArray[np.float64]) -> bool:
    """By the winding number: the solid angles of all faces, seen from the point, over 4 pi.

    Van Oosterom and Strackee, "The solid angle of a plane triangle" (1983).
    """
    if (point < vertices.min(axis=0)).any() or (point > vertices.max(axis=0)).any():
        return False
    a, b, c = (vertices.reshape(-1, 3, 3) - point).transpose(1, 0, 2)
    lengths = [np.linalg.norm(side, axis=1) for side in (a, b, c)]
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", one, other) for one, other in ((a, b), (b, c), (c, a))]
    below = (
        lengths[0] * lengths[1] * lengths[2]
        + dots[0] * lengths[2]
        + dots[1] * lengths[0]
        + dots[2] * lengths[1]
    )
    return bool(abs(2 * np.arctan2(volume, below).sum()) > 2 * np.pi)
