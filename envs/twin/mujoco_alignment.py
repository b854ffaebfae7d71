"""This module measures how well the twin's silhouettes lie on MuJoCo's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import SceneState
from spie_robo.envs.twin.renderer import render_instances

if TYPE_CHECKING:
    import mujoco

ROLE_GROUPS = ("foreground", "robot", "surface", "object")


@dataclass(frozen=True)
class SilhouetteMatch:
    """A silhouette is what shows of a role, compared in both renderers.

    Attributes:
        group: One of :data:`ROLE_GROUPS`; ``"foreground"`` is all but the background.
        pixels: Size of MuJoCo's silhouette.
        iou: Intersection over union, 0 to 1.
    """

    group: str
    pixels: int
    iou: float


def mujoco_instances(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    camera: Any,
    height: int,
    width: int,
    option: mujoco.MjvOption | None = None,
) -> NDArray[np.int32]:
    """MuJoCo's own segmentation, with the instance ids of a :class:`MujocoShapes`.

    Args:
        model: The model.
        data: Its data.
        camera: As for ``mujoco.Renderer.update_scene``.
        height: Pixels.
        width: Pixels.
        option: What to show; None: MuJoCo's default.

    Returns:
        int32, (height, width); -1 where nothing is.
    """
    import mujoco

    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    renderer = mujoco.Renderer(model, height, width)
    renderer.enable_segmentation_rendering()
    renderer.update_scene(data, camera=camera, scene_option=option)
    numbers, kinds = np.moveaxis(renderer.render(), -1, 0)
    renderer.close()
    objects = mujoco.mjtObj
    starts = {
        int(objects.mjOBJ_GEOM): 0,
        int(objects.mjOBJ_SITE): model.ngeom,
        int(objects.mjOBJ_TENDON): model.ngeom + model.nsite,
    }
    instances = np.full(numbers.shape, -1, np.int32)
    for kind, start in starts.items():
        instances[kinds == kind] = start + numbers[kinds == kind]
    return instances


def compare_silhouettes(
    state: SceneState, simulator: NDArray[np.int32], min_pixels: int = 20
) -> list[SilhouetteMatch]:
    """Compare the foreground, and every role in view, with MuJoCo's segmentation.

    Args:
        state: The scene with one camera.
        simulator: :func:`mujoco_instances` of that camera.
        min_pixels: Smaller silhouettes are left out.
    """
    twin = render_instances(state, state.cameras[0])
    results = []
    for group in ROLE_GROUPS:
        roles = ("robot", "surface", "object") if group == "foreground" else (group,)
        instances = [shape.instance for shape in state.shapes if shape.role in roles]
        one, other = np.isin(simulator, instances), np.isin(twin, instances)
        if one.sum() >= min_pixels:
            iou = float((one & other).sum() / (one | other).sum())
            results.append(SilhouetteMatch(group, int(one.sum()), iou))
    return results
