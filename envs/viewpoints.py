"""Place the cameras of the tabletop environments."""

from __future__ import annotations

import numpy as np

from spie_robo.envs.robot import Panda
from spie_robo.envs.scene_state import CameraPose, look_at

FRONT_EYE = np.array([1.30, 0.0, 0.80])
FRONT_TARGET = np.array([0.34, 0.0, 0.09])
FRONT_FOV = 42.0
WRIST_FOV = 75.0
_UP = np.array([0.0, 0.0, 1.0])


def front_camera(
    height: int, width: int, rng: np.random.Generator | None = None, jitter: float = 0.0
) -> CameraPose:
    """Return the camera that faces the robot across the table.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        rng: Generator of the jitter.
        jitter: Standard deviation of the eye's position in metres; the target moves by half of
            it and the field of view by 40 degrees per metre.

    Returns:
        The camera.
    """
    eye, target, fov = FRONT_EYE, FRONT_TARGET, FRONT_FOV
    if rng is not None and jitter > 0:
        eye = eye + rng.normal(0, jitter, 3)
        target = target + rng.normal(0, jitter / 2, 3)
        fov = float(np.clip(fov + rng.normal(0, 40 * jitter), 25, 80))
    return CameraPose("front", look_at(eye, target, _UP), fov, height, width)


def wrist_camera(robot: Panda, height: int, width: int) -> CameraPose:
    """Return the camera on the robot's hand at its present pose."""
    return CameraPose("wrist", look_at(*robot.wrist_camera_pose()), WRIST_FOV, height, width)
