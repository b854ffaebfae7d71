"""Control the Franka Panda: Cartesian targets, gripper, proprioception and wrist camera."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene import TabletopScene
from spie_robo.errors import EnvError

HOME_JOINTS = (0.0, -0.35, 0.0, -2.45, 0.0, 2.1, 0.785)
WORKSPACE_LOW = np.array([0.25, -0.30, 0.012])
WORKSPACE_HIGH = np.array([0.70, 0.30, 0.45])

_ARM_JOINTS = tuple(range(7))
_FINGER_JOINTS = (9, 10)
_HAND_LINK = 8
_GRASP_LINK = 11
_FINGER_OPEN = 0.04
_ARM_FORCE = 160.0
_FINGER_FORCE = 60.0
_GRIPPER_DOWN = (1.0, 0.0, 0.0, 0.0)

# The camera sits behind the fingers and looks along them with a slight tilt, as usual.
_CAMERA_OFFSET = np.array([0.075, 0.0, 0.0])
_CAMERA_TARGET = np.array([0.02, 0.0, 0.20])


@final
class Panda:
    """A controller of the robot in a scene.

    The gripper points straight down; its target moves within ``WORKSPACE_LOW..WORKSPACE_HIGH``.

    Args:
        scene: A scene with a robot.

    Raises:
        EnvError: If the scene has no robot.
    """

    def __init__(self, scene: TabletopScene) -> None:
        """Take control of the scene's robot."""
        if scene.panda is None:
            raise EnvError("This scene has no robot: build it with TabletopScene(panda=True).")
        self._client: Any = scene.client
        self._body = scene.panda
        self._target = np.zeros(3)
        self._opening = _FINGER_OPEN
        for joint in _FINGER_JOINTS:
            self._client.changeDynamics(
                self._body, joint, lateralFriction=1.5, spinningFriction=0.02
            )

    def reset(self, position: NDArray[np.float64] | None = None, opening: float = 1.0) -> None:
        """Set a posture at rest at once.

        Args:
            position: Position of the grasp point, metres; None for the home posture.
            opening: 0 closed to 1 open.
        """
        for joint, angle in zip(_ARM_JOINTS, HOME_JOINTS, strict=True):
            self._client.resetJointState(self._body, joint, angle)
        self._opening = float(opening) * _FINGER_OPEN
        for joint in _FINGER_JOINTS:
            self._client.resetJointState(self._body, joint, self._opening)
        self._target = self.grasp_position if position is None else self._clip(position)
        for _ in range(0 if position is None else 12):
            for joint, angle in zip(_ARM_JOINTS, self._solve(), strict=True):
                self._client.resetJointState(self._body, joint, angle)
        self._drive()

    def command(self, delta: NDArray[np.float32], opening: float) -> None:
        """Move the target of the grasp point.

        Args:
            delta: (3,), metres, world frame.
            opening: 0 closed to 1 open.
        """
        self._target = self._clip(self._target + delta)
        self._opening = float(opening) * _FINGER_OPEN
        self._drive()

    def _clip(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(position, WORKSPACE_LOW, WORKSPACE_HIGH)

    def _solve(self) -> list[float]:
        """Solve inverse kinematics from the present posture to the target, gripper down."""
        solution = self._client.calculateInverseKinematics(
            self._body,
            _GRASP_LINK,
            self._target.tolist(),
            _GRIPPER_DOWN,
            maxNumIterations=100,
            residualThreshold=1e-5,
        )
        return list(solution[: len(_ARM_JOINTS)])

    def _drive(self) -> None:
        self._client.setJointMotorControlArray(
            self._body,
            _ARM_JOINTS,
            self._client.POSITION_CONTROL,
            targetPositions=self._solve(),
            forces=[_ARM_FORCE] * len(_ARM_JOINTS),
        )
        self._client.setJointMotorControlArray(
            self._body,
            _FINGER_JOINTS,
            self._client.POSITION_CONTROL,
            targetPositions=[self._opening] * 2,
            forces=[_FINGER_FORCE] * 2,
        )

    @property
    def grasp_position(self) -> NDArray[np.float64]:
        """The point between the finger tips, float64 (3,), metres."""
        state = self._client.getLinkState(self._body, _GRASP_LINK, computeForwardKinematics=True)
        return np.array(state[4])

    @property
    def opening(self) -> float:
        """Distance between the fingers, metres."""
        return float(
            sum(self._client.getJointState(self._body, joint)[0] for joint in _FINGER_JOINTS)
        )

    def proprioception(self) -> NDArray[np.float32]:
        """Return the robot's own state, float32 (14,).

        Grasp position (3, metres), its velocity (3, metres per second), finger distance
        (1, metres), arm joint angles (7, radians).
        """
        state = self._client.getLinkState(
            self._body, _GRASP_LINK, computeLinkVelocity=True, computeForwardKinematics=True
        )
        joints = [self._client.getJointState(self._body, joint)[0] for joint in _ARM_JOINTS]
        return np.array([*state[4], *state[6], self.opening, *joints], np.float32)

    def wrist_camera_pose(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return eye, target and up vector of the wrist camera in the world, float64 (3,) each."""
        state = self._client.getLinkState(self._body, _HAND_LINK, computeForwardKinematics=True)
        rotation = np.reshape(self._client.getMatrixFromQuaternion(state[5]), (3, 3))
        origin = np.array(state[4])
        eye = origin + rotation @ _CAMERA_OFFSET
        return eye, origin + rotation @ _CAMERA_TARGET, rotation @ np.array([1.0, 0.0, 0.0])
