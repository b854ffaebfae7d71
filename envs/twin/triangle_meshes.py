"""Triangle meshes of simple shapes, and texture coordinates in metres for any mesh."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import TriangleMesh

_RINGS = 24

_CUBE = np.array(
    [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32
)
_CUBE_FACES = (
    (0, 1, 3, 2),
    (4, 6, 7, 5),
    (0, 4, 5, 1),
    (2, 3, 7, 6),
    (0, 2, 6, 4),
    (1, 5, 7, 3),
)


def box_mesh(size: tuple[float, float, float]) -> TriangleMesh:
    """A box around the origin with texture coordinates in metres.

    Args:
        size: Three edge lengths, metres.
    """
    corners = _CUBE * np.array(size, np.float32)
    triangles = [corner for a, b, c, d in _CUBE_FACES for corner in (a, b, c, a, c, d)]
    return with_metric_texcoords(flat_mesh(corners[triangles]))


def plane_mesh(length: float, width: float) -> TriangleMesh:
    """A rectangle in the plane z = 0, around the origin, with texture coordinates in metres.

    Args:
        length: Along x, metres.
        width: Along y, metres.
    """
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) / 2
    corners = square[[0, 1, 2, 0, 2, 3]] * np.array([length, width, 1])
    return with_metric_texcoords(flat_mesh(np.asarray(corners, np.float32)))


@functools.cache
def unit_sphere() -> TriangleMesh:
    """A sphere of radius 1 around the origin, smooth."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, _RINGS + 1), np.linspace(0, 2 * np.pi, 2 * _RINGS + 1), indexing="ij"
    )
    points = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1
    ).astype(np.float32)
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    corners = np.stack([a, b, c, a, c, d], axis=2).reshape(-1, 3)
    return TriangleMesh(corners, corners)


def flat_mesh(corners: NDArray[np.float32]) -> TriangleMesh:
    """A mesh whose faces are flat.

    Args:
        corners: float32, (3 * triangles, 3), metres; counter-clockwise from outside.
    """
    a, b, c = corners.reshape(-1, 3, 3).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return TriangleMesh(corners, np.repeat(normals, 3, axis=0).astype(np.float32))


_CUBE_MAP = (
    # face of the map: axis, sign, then the axes and signs that its columns and rows follow
    (0, 1, 2, -1, 1, -1),
    (0, -1, 2, 1, 1, -1),
    (1, 1, 0, 1, 2, 1),
    (1, -1, 0, 1, 2, -1),
    (2, 1, 0, 1, 1, -1),
    (2, -1, 0, -1, 1, -1),
)
"""OpenGL's cube maps (specification 4.6, table 8.19)."""


def with_cube_texcoords(
    mesh: TriangleMesh, half_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> TriangleMesh:
    """The same mesh with coordinates in a cube map whose six faces lie below each other.

    A triangle that crosses an edge of the cube takes the face that its middle points to.

    Args:
        mesh: Its own texture coordinates are given up.
        half_size: What vertices are divided by before their direction is taken.
    """
    directions = mesh.vertices.reshape(-1, 3, 3) / np.array(half_size, np.float32)
    middle = directions.mean(axis=1)
    axis = np.argmax(np.abs(middle), axis=1)
    sign = np.sign(middle[np.arange(len(middle)), axis])
    texcoords = np.zeros((len(middle), 3, 2), np.float32)
    for face, (major, side, column, column_sign, row, row_sign) in enumerate(_CUBE_MAP):
        chosen = (axis == major) & (sign == side)
        corners = directions[chosen]
        depth = np.maximum(np.abs(corners[:, :, major]), 1e-9)
        u = 0.5 + 0.5 * column_sign * corners[:, :, column] / depth
        v = 0.5 + 0.5 * row_sign * corners[:, :, row] / depth
        texcoords[chosen, :, 0] = np.clip(u, 0, 1)
        texcoords[chosen, :, 1] = (face + np.clip(v, 0.005, 0.995)) / 6
    return TriangleMesh(mesh.vertices, mesh.normals, texcoords.reshape(-1, 2))


def with_metric_texcoords(mesh: TriangleMesh) -> TriangleMesh:
    """The same mesh with texture coordinates in metres.

    Each face takes the two axes that it is least inclined to, as if boards were cut to fit it.

    Args:
        mesh: Its own texture coordinates are given up.
    """
    a, b, c = mesh.vertices.reshape(-1, 3, 3).transpose(1, 0, 2)
    facing = np.argmax(np.abs(np.cross(b - a, c - a)), axis=1).repeat(3)
    first, second = np.array([1, 0, 0])[facing], np.array([2, 2, 1])[facing]
    rows = np.arange(len(mesh.vertices))
    texcoords = np.stack([mesh.vertices[rows, first], mesh.vertices[rows, second]], axis=1)
    return TriangleMesh(mesh.vertices, mesh.normals, np.ascontiguousarray(texcoords, np.float32))
