"""Wavefront OBJ files split by material, which Mitsuba's own loader does not do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import EnvError

_DEFAULT_COLOR = (0.9, 0.92, 0.93)


@dataclass(frozen=True, eq=False)
class MeshPart:
    """The triangles of one material.

    Attributes:
        color: The material's diffuse colour (``Kd``), sRGB.
        vertices: float32, (3 * triangles, 3).
        normals: float32, (3 * triangles, 3): shading normals.
    """

    color: tuple[float, float, float]
    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]


def load_obj(path: str) -> tuple[MeshPart, ...]:
    """Read an OBJ file whose faces are polygons with normals.

    Args:
        path: The file; its ``mtllib`` is looked up beside it.

    Returns:
        One part a material, in the order of the file.

    Raises:
        EnvError: If the file cannot be read or has no faces with normals.
    """
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError as error:
        raise EnvError(f"Cannot read the mesh {path}: {error.strerror}.") from error
    positions: list[list[str]] = []
    normals: list[list[str]] = []
    corners: dict[str, list[tuple[int, int]]] = {}
    colors: dict[str, tuple[float, float, float]] = {}
    material = ""
    for line in lines:
        key, _, rest = line.partition(" ")
        if key == "v":
            positions.append(rest.split()[:3])
        elif key == "vn":
            normals.append(rest.split()[:3])
        elif key == "usemtl":
            material = rest.strip()
        elif key == "mtllib":
            colors = _load_colors(Path(path).parent / rest.strip())
        elif key == "f":
            corners.setdefault(material, []).extend(_triangles(rest))
    if not corners or not normals:
        raise EnvError(f"The mesh {path} has no faces with normals.")
    vertex_array, normal_array = np.array(positions, np.float32), np.array(normals, np.float32)
    parts = []
    for name, indices in corners.items():
        index = np.array(indices) - 1
        color = colors.get(name, _DEFAULT_COLOR)
        parts.append(MeshPart(color, vertex_array[index[:, 0]], normal_array[index[:, 1]]))
    return tuple(parts)


def _triangles(face: str) -> list[tuple[int, int]]:
    """Corners (position, normal) of a polygon as a fan of triangles, counted from 1."""
    corners = []
    for token in face.split():
        fields = token.split("/")
        corners.append((int(fields[0]), int(fields[2])))
    fan = [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return [corner for triangle in fan for corner in triangle]


def _load_colors(path: Path) -> dict[str, tuple[float, float, float]]:
    colors: dict[str, tuple[float, float, float]] = {}
    if not path.exists():
        return colors
    name = ""
    for line in path.read_text(errors="replace").splitlines():
        fields = line.split()
        if fields[:1] == ["newmtl"]:
            name = " ".join(fields[1:])
        elif fields[:1] == ["Kd"]:
            red, green, blue = (float(value) for value in fields[1:4])
            colors[name] = (red, green, blue)
    return colors
