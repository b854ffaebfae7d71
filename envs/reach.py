"""Reach: move the grasp point to a floating marker."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.tabletop_env import TabletopEnv, sample_xy

_TOLERANCE = 0.025
_MARKER_RADIUS = 0.02


@final
class ReachEnv(TabletopEnv):
    """Bring the grasp point within 2.5 cm of the marker ``goal``.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> env = gymnasium.make("SpieRobo/Reach-v0")
        >>> observation, info = env.reset(seed=0)
        >>> observation["front"].shape, info["success"]
        ((128, 128, 3), False)
    """

    def _build(self) -> None:
        self._goal_body = self.scene.add_sphere(
            "goal", _MARKER_RADIUS, (0.5, 0, 0.2), color=self.goal_color, collide=False
        )

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.robot.reset()
        start = self.robot.grasp_position
        goal = start
        while np.linalg.norm(goal - start) < 0.12:
            goal = np.array([*sample_xy(rng), rng.uniform(0.06, 0.30)])
        self.scene.place(self._goal_body, goal)

    @property
    def goal(self) -> NDArray[np.float64]:
        """Centre of the marker, float64 (3,), metres."""
        return self.scene.position(self._goal_body)

    def distance(self) -> float:
        """Return the distance from grasp point to marker, metres."""
        return float(np.linalg.norm(self.robot.grasp_position - self.goal))

    def success(self) -> bool:
        """Return whether the grasp point is close enough to the marker."""
        return self.distance() < _TOLERANCE
