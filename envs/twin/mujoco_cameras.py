"""MuJoCo's cameras as :class:`CameraPose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from spie_robo.envs.scene_state import CameraPose
from spie_robo.errors import EnvError

if TYPE_CHECKING:
    import mujoco

CameraName: TypeAlias = str | int
"""Name or number of a model's camera; -1 is the free camera that the model describes."""


def camera_pose(
    abstract: mujoco.MjvScene, model: mujoco.MjModel, camera: Any, height: int, width: int
) -> CameraPose:
    """The camera that an abstract scene was just updated with.

    Args:
        abstract: After ``mjv_updateScene``.
        model: Whose camera it is.
        camera: What the scene was updated with: gives the camera its name.
        height: Pixels.
        width: Pixels.

    Raises:
        EnvError: If it is orthographic or its centre is not the image's.
    """
    left, right = abstract.camera[0], abstract.camera[1]
    if left.orthographic:
        raise EnvError("The twin cannot show orthographic cameras: use a perspective one.")
    middle = (left.frustum_top + left.frustum_bottom) / 2
    off_centre = max(abs(middle), abs(left.frustum_center + right.frustum_center) / 2)
    if off_centre > 1e-4 * left.frustum_top or _stretched(left, height, width):
        raise EnvError(
            "The twin cannot show cameras whose principal point is not the image's centre, or "
            "whose pixels are not square."
        )
    forward, up = np.array(left.forward, np.float64), np.array(left.up, np.float64)
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = np.stack([np.cross(forward, up), -up, forward])
    eye = (np.array(left.pos, np.float64) + np.array(right.pos, np.float64)) / 2
    extrinsics[:3, 3] = -extrinsics[:3, :3] @ eye
    return CameraPose(
        name=_name(model, camera),
        extrinsics=extrinsics,
        vertical_fov=float(2 * np.degrees(np.arctan(left.frustum_top / left.frustum_near))),
        height=height,
        width=width,
        near=float(left.frustum_near),
        far=float(left.frustum_far),
    )


def _stretched(camera: Any, height: int, width: int) -> bool:
    """Return whether a camera's own sensor has another shape than the image."""
    if camera.frustum_width == 0:  # as wide as the image says
        return False
    shape = camera.frustum_width / camera.frustum_top
    return bool(abs(shape * height / width - 1) > 1e-3)


def _name(model: mujoco.MjModel, camera: Any) -> str:
    if isinstance(camera, str):
        return camera
    number = camera if isinstance(camera, int) else int(camera.fixedcamid)
    if number < 0:
        return "free"
    return model.camera(number).name or f"camera_{number}"
