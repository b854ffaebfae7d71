"""Solve the tasks with scripted experts, which read the simulator's state and not its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.pick_place import PickPlaceEnv
from spie_robo.envs.push import CUBE_EDGE, PushEnv
from spie_robo.envs.reach import ReachEnv
from spie_robo.envs.tabletop_env import STEP_LENGTH, TabletopEnv
from spie_robo.errors import EnvError

_OPEN, _CLOSED = 1.0, -1.0


class Expert(ABC):
    """A scripted policy for one task; see :func:`make_expert`."""

    def __init__(self) -> None:
        """Start in the first phase."""
        self._phase = 0
        self._steps_in_phase = 0

    def reset(self, seed: int | None = None) -> None:
        """Start over; an expert has no random draws."""
        self._phase = 0
        self._steps_in_phase = 0

    @abstractmethod
    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action, float32 (4,)."""

    def _next_phase(self) -> None:
        self._phase += 1
        self._steps_in_phase = 0


@final
class ReachExpert(Expert):
    """An expert that goes straight to the marker."""

    def __init__(self, env: ReachEnv) -> None:
        """Bind to ``env``."""
        super().__init__()
        self._env = env

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action, float32 (4,)."""
        return _towards(self._env, self._env.goal, _OPEN)


@final
class PushExpert(Expert):
    """An expert that goes behind the cube and pushes it to the disc, again after a slip."""

    _above, _behind, _push = 0, 1, 2
    _standoff = CUBE_EDGE / 2 + 0.035
    _height = 0.022
    _travel_height = 0.13

    def __init__(self, env: PushEnv) -> None:
        """Bind to ``env``."""
        super().__init__()
        self._env = env

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action, float32 (4,)."""
        # Choose the point behind the cube, and start over after a slip.
        cube, goal = self._env.cube[:2], self._env.goal[:2]
        direction = (goal - cube) / max(float(np.linalg.norm(goal - cube)), 1e-6)
        start = cube - direction * self._standoff
        grasp = self._env.robot.grasp_position
        if self._phase == self._push and self._slipped(grasp, cube, direction):
            self._phase = self._above
        # Go to the point from above, then down, then push.
        if self._phase == self._above:
            target = np.array([*start, self._travel_height])
            if np.linalg.norm(grasp - target) < 0.015:
                self._next_phase()
            elif grasp[2] < self._travel_height - 0.03:
                target = np.array([*grasp[:2], self._travel_height])
        if self._phase == self._behind:
            target = np.array([*start, self._height])
            if grasp[2] < self._height + 0.008:
                self._next_phase()
        if self._phase == self._push:
            # Aim a little past the cube's centre, and correct sideways drift of the contact.
            sideways = (cube - grasp[:2]) - direction * ((cube - grasp[:2]) @ direction)
            ahead = min(0.02, float(np.linalg.norm(goal - cube)) * 0.5 + 0.006)
            target = np.array([*(grasp[:2] + direction * ahead + 0.6 * sideways), self._height])
        return _towards(self._env, target, _CLOSED)

    def _slipped(
        self, grasp: NDArray[np.float64], cube: NDArray[np.float64], direction: NDArray[np.float64]
    ) -> bool:
        """Return whether the hand is no longer behind the cube on the line to the disc."""
        offset = cube - grasp[:2]
        along = float(offset @ direction)
        across = float(np.linalg.norm(offset - direction * along))
        return along < 0.005 or across > 0.02


@final
class PickPlaceExpert(Expert):
    """An expert that grasps the cube from above, carries it to the disc and releases it."""

    _hover, _descend, _close, _lift, _carry, _lower, _release = range(7)
    _travel_height = 0.16

    def __init__(self, env: PickPlaceEnv) -> None:
        """Bind to ``env``."""
        super().__init__()
        self._env = env

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action, float32 (4,)."""
        self._steps_in_phase += 1
        if self._lost_cube():
            self._phase = self._hover
        target, gripper = self._target()
        grasp = self._env.robot.grasp_position
        if self._phase in (self._close, self._release):
            arrived = self._steps_in_phase >= 8
        else:
            arrived = bool(np.linalg.norm(grasp - target) < 0.012)
        action = _towards(self._env, target, gripper)
        if arrived and self._phase < self._release:
            self._next_phase()
        return action

    def _target(self) -> tuple[NDArray[np.float64], float]:
        cube, goal = self._env.cube, self._env.goal
        height = cube[2]
        over_cube = np.array([*cube[:2], self._travel_height])
        over_goal = np.array([*goal[:2], self._travel_height])
        targets = {
            self._hover: (over_cube, _OPEN),
            self._descend: (np.array([*cube[:2], height]), _OPEN),
            self._close: (np.array([*cube[:2], height]), _CLOSED),
            self._lift: (over_cube, _CLOSED),
            self._carry: (over_goal, _CLOSED),
            self._lower: (np.array([*goal[:2], 0.026]), _CLOSED),
            self._release: (np.array([*goal[:2], 0.026]), _OPEN),
        }
        return targets[self._phase]

    def _lost_cube(self) -> bool:
        """Return whether the cube is not between the fingers although it should be."""
        held = np.linalg.norm(self._env.robot.grasp_position - self._env.cube) < 0.05
        return self._phase in (self._carry, self._lower) and not held


def make_expert(env: gymnasium.Env[Any, Any]) -> Expert:
    """Make the expert for an environment, wrapped or not.

    Args:
        env: One of the ``SpieRobo`` environments.

    Returns:
        The expert, bound to that instance.

    Raises:
        EnvError: If there is no expert for the environment.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> env = gymnasium.make("SpieRobo/Reach-v0")
        >>> observation, _ = env.reset(seed=0)
        >>> expert = make_expert(env)
        >>> expert.act(observation).shape
        (4,)
    """
    task = env.unwrapped
    if isinstance(task, ReachEnv):
        return ReachExpert(task)
    if isinstance(task, PushEnv):
        return PushExpert(task)
    if isinstance(task, PickPlaceEnv):
        return PickPlaceExpert(task)
    raise EnvError(
        f"There is no scripted expert for {type(task).__name__}: experts solve SpieRobo/Reach-v0, "
        "Push-v0 and PickPlace-v0. Use --policy random or a trained policy."
    )


def _towards(env: TabletopEnv, target: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
    delta = (target - env.robot.grasp_position) / STEP_LENGTH
    return np.array([*np.clip(0.8 * delta, -1, 1), gripper], np.float32)
