"""This module measures how well the twin's silhouettes lie on the simulator's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_sampling import SampledScene
from spie_robo.envs.twin.renderer import render_instances

Group = Literal["foreground", "robot", "boxes", "round objects"]

GROUPS: tuple[Group, ...] = ("foreground", "robot", "boxes", "round objects")
_BACKGROUND = ("floor", "wall", "table")


@dataclass(frozen=True)
class Alignment:
    """One silhouette in both renderers.

    Attributes:
        group: ``"foreground"`` is everything but floor, wall and table at once; ``"boxes"`` and
            ``"round objects"`` (spheres and cylinders) are single objects on the table.
        pixels: Size of the simulator's silhouette.
        iou: Intersection over union, 0 to 1.
        offset: Distance of the two centroids in pixels.
    """

    group: Group
    pixels: int
    iou: float
    offset: float


def measure_alignment(scene: SampledScene, min_pixels: int = 20) -> list[Alignment]:
    """Compare the silhouettes of everything in front, of the robot, and of each object.

    PyBullet draws boxes and meshes as they are, but a sphere as a hull of 42 vertices and a
    cylinder as a hull that is 1 mm larger all around. The twin draws both round, the sphere as
    large as the hull. What is left of the difference stays at any resolution and moves no centroid.

    Args:
        scene: A scene whose geometry has depth and segmentation.
        min_pixels: Smaller silhouettes are left out.

    Returns:
        The foreground first, then what else is in view.
    """
    geometry = scene.frame.geometry
    if geometry is None or geometry.segmentation is None:
        return []
    simulator = geometry.segmentation
    twin = render_instances(scene.state, scene.state.cameras[0])
    results = []
    for group, instances in _silhouettes(scene):
        one, other = (np.isin(image, instances) for image in (simulator, twin))
        if one.sum() >= min_pixels and other.any():
            results.append(_compare(group, one, other))
    return results


def _silhouettes(scene: SampledScene) -> list[tuple[Group, list[int]]]:
    """Groups and the instances that make one silhouette."""
    shapes = [shape for shape in scene.state.shapes if shape.name not in _BACKGROUND]
    meshes = [shape.instance for shape in shapes if shape.kind == "mesh"]
    boxes = [shape.instance for shape in shapes if shape.kind == "box"]
    rounds = [shape.instance for shape in shapes if shape.kind in ("sphere", "cylinder")]
    return [
        ("foreground", [*meshes, *boxes, *rounds]),
        ("robot", meshes),
        *(("boxes", [instance]) for instance in boxes),
        *(("round objects", [instance]) for instance in rounds),
    ]


def _compare(group: Group, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Alignment:
    centroids = [np.argwhere(mask).mean(axis=0) for mask in (one, other)]
    return Alignment(
        group=group,
        pixels=int(one.sum()),
        iou=float((one & other).sum() / (one | other).sum()),
        offset=float(np.linalg.norm(centroids[0] - centroids[1])),
    )
