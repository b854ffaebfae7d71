"""Push: move a cube onto a disc with closed fingers."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.tabletop_env import TabletopEnv, sample_xy

CUBE_EDGE = 0.05
_TOLERANCE = 0.03
_DISC_RADIUS = 0.05


@final
class PushEnv(TabletopEnv):
    """Push the red ``cube`` so that its centre is within 3 cm of the disc ``goal``.

    The gripper stays closed; the fourth action has no effect.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> env = gymnasium.make("SpieRobo/Push-v0", width=64, height=64)
        >>> observation, info = env.reset(seed=0)
        >>> sorted(set(info["geometry"]["front"].names.values()))
        ['cube', 'floor', 'goal', 'panda', 'table', 'wall']
    """

    gripper_stays_closed = True

    def _build(self) -> None:
        self._goal_body = self.scene.add_cylinder(
            "goal", _DISC_RADIUS, 0.004, (0.5, 0.1, 0.002), color=self.goal_color, collide=False
        )
        self._cube_body = self.scene.add_box(
            "cube", (CUBE_EDGE,) * 3, (0.5, 0, CUBE_EDGE / 2), mass=0.12
        )
        self.scene.client.changeDynamics(self._cube_body, -1, lateralFriction=0.6)

    def _reset_task(self, rng: np.random.Generator) -> None:
        cube = sample_xy(rng, (0.40, 0.55), (-0.14, 0.14))
        goal = cube
        while np.linalg.norm(goal - cube) < 0.10:
            goal = sample_xy(rng, (0.38, 0.60), (-0.18, 0.18))
        self.scene.place(self._goal_body, (*goal, 0.002))
        # A cube aligned with the world slides off sideways less, so turn it a little.
        self.scene.place(self._cube_body, (*cube, CUBE_EDGE / 2), yaw=float(rng.uniform(-0.4, 0.4)))
        self.robot.reset(np.array([0.40, 0.0, 0.22]), opening=0.0)

    @property
    def cube(self) -> NDArray[np.float64]:
        """Centre of the cube, float64 (3,), metres."""
        return self.scene.position(self._cube_body)

    @property
    def goal(self) -> NDArray[np.float64]:
        """Centre of the disc, float64 (3,), metres."""
        return self.scene.position(self._goal_body)

    def distance(self) -> float:
        """Return the distance from cube to disc along the table, metres."""
        return float(np.linalg.norm((self.cube - self.goal)[:2]))

    def success(self) -> bool:
        """Return whether the cube is on the disc and still on the table."""
        return self.distance() < _TOLERANCE and bool(self.cube[2] > 0)
