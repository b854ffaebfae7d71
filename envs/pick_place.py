"""Pick and place: grasp a cube, set it down on a disc and release it."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.tabletop_env import TabletopEnv, sample_xy

CUBE_EDGE = 0.045
_TOLERANCE = 0.03
_DISC_RADIUS = 0.05
_RELEASED_OPENING = 0.06


@final
class PickPlaceEnv(TabletopEnv):
    """Set the red ``cube`` down within 3 cm of the disc ``goal`` and open the gripper.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> env = gymnasium.make("SpieRobo/PickPlace-v0", reward_type="shaped")
        >>> _ = env.reset(seed=0)
        >>> env.action_space.shape
        (4,)
    """

    def _build(self) -> None:
        self._goal_body = self.scene.add_cylinder(
            "goal", _DISC_RADIUS, 0.004, (0.5, 0.1, 0.002), color=self.goal_color, collide=False
        )
        self._cube_body = self.scene.add_box(
            "cube", (CUBE_EDGE,) * 3, (0.5, 0, CUBE_EDGE / 2), mass=0.08
        )
        self.scene.client.changeDynamics(
            self._cube_body, -1, lateralFriction=1.2, spinningFriction=0.01
        )

    def _reset_task(self, rng: np.random.Generator) -> None:
        cube = sample_xy(rng)
        goal = cube
        while np.linalg.norm(goal - cube) < 0.12:
            goal = sample_xy(rng)
        self.scene.place(self._goal_body, (*goal, 0.002))
        # The gripper does not turn, so the cube's faces are nearly parallel to the fingers.
        self.scene.place(self._cube_body, (*cube, CUBE_EDGE / 2), yaw=float(rng.uniform(-0.2, 0.2)))
        self.robot.reset(np.array([0.42, 0.0, 0.24]), opening=1.0)

    @property
    def cube(self) -> NDArray[np.float64]:
        """Centre of the cube, float64 (3,), metres."""
        return self.scene.position(self._cube_body)

    @property
    def goal(self) -> NDArray[np.float64]:
        """Centre of the disc, float64 (3,), metres."""
        return self.scene.position(self._goal_body)

    def distance(self) -> float:
        """Return the distance from grasp point to cube plus from cube to disc, metres."""
        to_cube = np.linalg.norm(self.robot.grasp_position - self.cube)
        to_goal = np.linalg.norm(self.cube[:2] - self.goal[:2])
        return float(to_cube + to_goal)

    def success(self) -> bool:
        """Return whether the cube rests on the disc with the gripper open."""
        offset = np.linalg.norm((self.cube - self.goal)[:2])
        resting = abs(self.cube[2] - CUBE_EDGE / 2) < 0.01
        return bool(offset < _TOLERANCE and resting and self.robot.opening > _RELEASED_OPENING)
