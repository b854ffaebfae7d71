"""The room that a simulator leaves out: floor and walls where it shows sky or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Shape
from spie_robo.envs.twin.triangle_meshes import plane_mesh

NO_INSTANCE = -1

_WALL_HEIGHT = 3.2
_NARROWEST = 5.0
"""Metres between opposite walls at least: lamps hang inside, and light from above gets in."""

_WIDEST = 15.0
"""Metres: floors without end get walls at this distance."""

_LINE = 0.02
"""Metres: things thinner than this in two directions are marks, not furniture."""

_SKIN = 0.002
"""Metres: an added floor lies this much below a simulator's own."""


@dataclass(frozen=True, eq=False)
class Extents:
    """An upright box in the world frame.

    Attributes:
        low: float64, (3,), metres.
        high: float64, (3,), metres.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def joined(self, point: NDArray[np.float64]) -> Extents:
        """The smallest box around this one and a point."""
        return Extents(np.minimum(self.low, point), np.maximum(self.high, point))


def shape_extents(shapes: Sequence[Shape]) -> Extents:
    """The box around some shapes; at least one."""
    corners = np.concatenate([_corners(shape) for shape in shapes])
    return Extents(corners.min(axis=0), corners.max(axis=0))


def _corners(shape: Shape) -> NDArray[np.float64]:
    """float64, (8, 3): corners of a shape's local box, in the world frame."""
    low, high = _local_box(shape)
    choice = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    local = np.where(choice == 0, low, high)
    return np.asarray(local @ shape.pose[:3, :3].T + shape.pose[:3, 3])


def _local_box(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if shape.triangles is not None:
        scale = np.array(shape.size, np.float64)
        vertices = shape.triangles.vertices
        return vertices.min(axis=0) * scale, vertices.max(axis=0) * scale
    size = shape.size
    if shape.kind in ("cylinder", "capsule"):
        length, radius = size
        cap = radius if shape.kind == "capsule" else 0.0
        half = np.array([radius, radius, length / 2 + cap])
    elif shape.kind == "box":
        half = np.array(size) / 2
    else:  # a sphere has one radius, an ellipsoid three
        half = np.broadcast_to(np.array(size, np.float64), (3,))
    return -half, half


def build_room(
    shapes: Sequence[Shape], eyes: Sequence[NDArray[np.float64]], margin: float = 1.0
) -> tuple[Shape, ...]:
    """A floor and four walls around everything that is there.

    Nothing of it stands between a camera and a shape. Where the simulator has a floor, the walls
    stand at its edges.

    Args:
        shapes: The simulator's own.
        eyes: Positions of the cameras, (3,) each, metres.
        margin: Metres between the walls and what they surround.

    Returns:
        Five background shapes that belong to no instance.
    """
    solid = [shape for shape in shapes if not _is_floor(shape)]
    extents = shape_extents(solid or shapes)
    floors = [shape for shape in shapes if _is_floor(shape)]
    floor_height = _floor_height(floors, solid) if floors else float(extents.low[2])
    for eye in eyes:
        extents = extents.joined(eye)
    low, high = extents.low[:2] - margin, extents.high[:2] + margin
    spare = np.maximum(0, _NARROWEST - (high - low)) / 2
    low, high = low - spare, high + spare
    for floor in floors:
        around = shape_extents([floor])
        centre = (low + high) / 2
        low = np.minimum(low, np.maximum(around.low[:2], centre - _WIDEST))
        high = np.maximum(high, np.minimum(around.high[:2], centre + _WIDEST))
    return (_floor(low, high, floor_height - _SKIN), *_walls(low, high, floor_height - _SKIN))


def _floor_height(floors: Sequence[Shape], solid: Sequence[Shape]) -> float:
    """As low as the simulator's floors, and lower where something stands beside and below them."""
    height = min(float(floor.pose[2, 3]) for floor in floors)
    under = shape_extents(floors)
    for shape in solid:
        around = shape_extents([shape])
        beside = (around.low[:2] < under.low[:2]).any() or (around.high[:2] > under.high[:2]).any()
        is_line = np.sort(around.high - around.low)[1] < _LINE
        if beside and not is_line:
            height = min(height, float(around.low[2]))
    return height


def lamp_focus(shapes: Sequence[Shape]) -> tuple[float, float, float]:
    """The point that lamps hang around: the middle of the largest surface to work on.

    Without a surface: the foot of everything that is not background.

    Args:
        shapes: The simulator's own.
    """
    surfaces = [shape for shape in shapes if shape.role == "surface"]
    if surfaces:
        extents = max(map(lambda shape: shape_extents([shape]), surfaces), key=_area)
        height = extents.high[2]
    else:
        solid = [shape for shape in shapes if shape.role != "background"] or list(shapes)
        extents = shape_extents(solid)
        height = extents.low[2]
    middle = (extents.low + extents.high) / 2
    return (float(middle[0]), float(middle[1]), float(height))


def _area(extents: Extents) -> float:
    edges = extents.high - extents.low
    return float(edges[0] * edges[1])


def _is_floor(shape: Shape) -> bool:
    if shape.role != "background" or shape.triangles is None:
        return False
    flat = np.ptp(shape.triangles.vertices[:, 2]) == 0
    return bool(flat and abs(shape.pose[2, 2]) > 0.9)


def _floor(low: NDArray[np.float64], high: NDArray[np.float64], height: float) -> Shape:
    pose = np.eye(4)
    pose[:3, 3] = [*(low + high) / 2, height]
    return _background("floor", high - low, pose)


def _walls(low: NDArray[np.float64], high: NDArray[np.float64], height: float) -> list[Shape]:
    """Walls whose pattern grows with their distance, or far ones would show nothing but grey."""
    middle, length = (low + high) / 2, high - low
    up = height + _WALL_HEIGHT / 2
    walls = []
    for axis in (0, 1):
        for side in (low, high):
            position = np.array([*middle, up])
            position[axis] = side[axis]
            pose = np.eye(4)
            along = np.eye(3)[1 - axis]
            normal = np.eye(3)[axis]
            pose[:3, :3] = np.stack([along, [0.0, 0.0, 1.0], normal], axis=1)
            pose[:3, 3] = position
            size = np.array([length[1 - axis], _WALL_HEIGHT])
            walls.append(_background("wall", size, pose, max(1.0, length[axis] / 6)))
    return walls


def _background(
    name: str, size: NDArray[np.float64], pose: NDArray[np.float64], coarser: float = 1.0
) -> Shape:
    mesh = plane_mesh(float(size[0]) / coarser, float(size[1]) / coarser)
    scale = (coarser, coarser, 1.0)
    return Shape(
        name, NO_INSTANCE, "mesh", scale, pose, (0.5, 0.5, 0.5), triangles=mesh, role="background"
    )
