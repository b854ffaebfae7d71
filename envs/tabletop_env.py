"""Share what all tabletop tasks have: spaces, cameras, control and ground truth in ``info``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from spie_robo.envs.cameras import DEFAULT_LIGHT, Renderer, load_hardware_renderer, render
from spie_robo.envs.robot import Panda
from spie_robo.envs.scene import PHYSICS_RATE, TabletopScene
from spie_robo.envs.scene_state import CameraPose, SceneState
from spie_robo.envs.viewpoints import front_camera, wrist_camera
from spie_robo.errors import ConfigError, EnvError
from spie_robo.types import RGB, Geometry

RewardType = Literal["sparse", "shaped"]
Observation: TypeAlias = dict[str, Any]
Action: TypeAlias = NDArray[np.float32]

CONTROL_RATE = 20
STEP_LENGTH = 0.05
"""Distance that the grasp target moves for an action of 1, metres."""

CAMERAS = ("front", "wrist")

_STATE_LIMIT = np.repeat(np.array([5, 100, 0.2, 10], np.float32), (3, 3, 1, 7))


class TabletopEnv(gymnasium.Env[Observation, Action], ABC):
    """A Franka Panda at a table, seen by a front and a wrist camera.

    Action: float32 (4,) in -1..1, displacement of the grasp point (x, y, z; 1 is 5 cm) and
    gripper (-1 closed, 1 open). One step is 1/20 s.

    Observation:

    ```
    front   uint8   (height, width, 3)
    wrist   uint8   (height, width, 3)
    state   float32 (14,)  grasp position 3, its velocity 3, finger distance 1, joint angles 7
    ```

    ``info``: ``success`` (bool), ``is_success`` (the same), and ``geometry``: for each camera a
    :class:`spie_robo.types.Geometry` with depth in metres, segmentation with names, intrinsics
    and extrinsics.

    Reward: ``sparse`` is 1 on success and 0 otherwise; ``shaped`` adds the task's distance term,
    at most 0.

    Args:
        width: Width of both cameras' images, pixels.
        height: Height of both cameras' images, pixels.
        reward_type: ``"sparse"`` or ``"shaped"``.
        render_mode: ``"rgb_array"`` makes ``render()`` return the front camera's image.
        renderer: ``"tiny"`` (CPU), ``"egl"`` (GPU plugin) or ``"auto"``.
        distractors: Number of objects that the task does not need.

    Attributes:
        scene: The physics world.
        robot: The robot in it.
        light: Keyword arguments of ``getCameraImage``.
        front: The front camera.
        wrist_adjustment: float64 (4, 4), motion of the wrist camera within its own frame.
        appearance: Function that is called at each reset, after all bodies are in place and
            before the first image. It may change the look, but not the physics.

    Raises:
        ConfigError: If an argument is out of range.
        EnvError: If ``renderer="egl"`` does not work on this machine.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium declares it as an instance dict
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_RATE,
    }

    goal_color: ClassVar[tuple[float, float, float]] = (0.15, 0.70, 0.25)
    gripper_stays_closed: ClassVar[bool] = False

    def __init__(
        self,
        width: int = 128,
        height: int = 128,
        reward_type: RewardType = "sparse",
        render_mode: str | None = None,
        renderer: Renderer = "tiny",
        distractors: int = 0,
    ) -> None:
        """Build the world; an episode starts with :meth:`reset`."""
        _check_arguments(width, height, reward_type, render_mode, distractors)
        # The world and its cameras.
        self.render_mode = render_mode
        self._size = (height, width)
        self._reward_type = reward_type
        self.scene = TabletopScene()
        self.robot = Panda(self.scene)
        self._hardware = load_hardware_renderer(self.scene.client, renderer)
        self.light: dict[str, Any] = dict(DEFAULT_LIGHT)
        self.front: CameraPose = front_camera(height, width)
        self.wrist_adjustment: NDArray[np.float64] = np.eye(4)
        self.appearance: Callable[[], None] | None = None
        self._distractors = [self._add_distractor(i) for i in range(distractors)]
        self._build()
        # The spaces.
        image = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = spaces.Dict(
            front=image, wrist=image, state=spaces.Box(-_STATE_LIMIT, _STATE_LIMIT)
        )
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        # The state that each reset restores.
        self._movable = [
            body
            for body in self.scene.names
            if body != self.scene.panda and self.scene.client.getDynamicsInfo(body, -1)[0] > 0
        ]
        self._start = self.scene.client.saveState()

    # Methods that a task defines.

    @abstractmethod
    def _build(self) -> None:
        """Add the task's bodies to ``self.scene``."""

    @abstractmethod
    def _reset_task(self, rng: np.random.Generator) -> None:
        """Put the task's bodies and the robot in place."""

    @abstractmethod
    def distance(self) -> float:
        """Return the remaining distance, metres; the shaped reward is its negative."""

    @abstractmethod
    def success(self) -> bool:
        """Return whether the task is solved now."""

    # Methods of Gymnasium.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode, which is a function of its seed."""
        super().reset(seed=seed)
        self.scene.client.restoreState(self._start)
        self._forget_contacts()
        self._place_distractors(self.np_random)
        self._reset_task(self.np_random)
        if self.appearance is not None:
            self.appearance()
        return self._observe()

    def _forget_contacts(self) -> None:
        """Delete the contacts of the last episode from the engine.

        Restoring a state keeps cached contact points where bodies touch again. They move a cube by
        micrometres, so that two runs would not be equal.
        """
        for index, body in enumerate(self._movable):
            self.scene.place(body, (0.0, 0.0, -5.0 - index))
        self.robot.reset()
        self.scene.client.performCollisionDetection()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move for 1/20 s; ``terminated`` is True on success."""
        self.advance(action)
        observation, info = self._observe()
        success = bool(info["success"])
        reward = float(success)
        if self._reward_type == "shaped":
            reward -= self.distance()
        return observation, reward, success, False, info

    def advance(self, action: Action) -> None:
        """Simulate one step without rendering.

        Raises:
            EnvError: If ``action`` is not four finite numbers.
        """
        action = np.asarray(action, np.float32)
        if action.shape != (4,) or not np.isfinite(action).all():
            raise EnvError(f"action: expected 4 finite numbers in -1..1, got {action!r}.")
        self._act(np.clip(action, -1.0, 1.0))
        for _ in range(PHYSICS_RATE // CONTROL_RATE):
            self.scene.client.stepSimulation()

    def _act(self, action: Action) -> None:
        opening = 0.0 if self.gripper_stays_closed else (float(action[3]) + 1) / 2
        self.robot.command(action[:3] * STEP_LENGTH, opening)

    def render(self) -> RGB | None:
        """Return the front camera's image if ``render_mode`` is ``"rgb_array"``."""
        if self.render_mode != "rgb_array":
            return None
        return self._look(self.front)[0]

    def close(self) -> None:
        """Disconnect from the simulator."""
        self.scene.close()

    # Cameras and ground truth.

    def cameras(self) -> tuple[CameraPose, CameraPose]:
        """Return front and wrist camera at their present poses."""
        wrist = wrist_camera(self.robot, *self._size)
        return self.front, replace(wrist, extrinsics=self.wrist_adjustment @ wrist.extrinsics)

    def scene_state(self) -> SceneState:
        """Return everything that is visible, as plain data, e.g. for the photoreal twin."""
        return self.scene.state(self.cameras())

    def _look(self, camera: CameraPose) -> tuple[RGB, Geometry]:
        return render(self.scene.client, camera, self.scene.names, self.light, self._hardware)

    def _observe(self) -> tuple[Observation, dict[str, Any]]:
        observation: Observation = {"state": self.robot.proprioception()}
        geometry: dict[str, Geometry] = {}
        for camera in self.cameras():
            observation[camera.name], geometry[camera.name] = self._look(camera)
        success = self.success()
        return observation, {"success": success, "is_success": success, "geometry": geometry}

    # Distractors.

    def _add_distractor(self, index: int) -> int:
        colors = (
            (0.2, 0.3, 0.8),
            (0.9, 0.8, 0.2),
            (0.5, 0.2, 0.6),
            (0.9, 0.5, 0.2),
            (0.2, 0.7, 0.8),
        )
        name, color = f"distractor_{index}", colors[index]
        hidden = (0.0, 0.0, -5.0)
        if index % 3 == 0:
            return self.scene.add_cylinder(name, 0.03, 0.10, hidden, mass=0.2, color=color)
        if index % 3 == 1:
            return self.scene.add_box(name, (0.05, 0.07, 0.06), hidden, mass=0.2, color=color)
        return self.scene.add_sphere(name, 0.03, hidden, mass=0.2, color=color)

    def _place_distractors(self, rng: np.random.Generator) -> None:
        # Place them along the table's far edges, outside the robot's way.
        for index, body in enumerate(self._distractors):
            side = -1 if index % 2 else 1
            x = 0.30 + 0.18 * (index // 2) + float(rng.uniform(-0.03, 0.03))
            y = side * float(rng.uniform(0.36, 0.44))
            height = (0.05, 0.03, 0.03)[index % 3]
            self.scene.place(body, (x, y, height), yaw=float(rng.uniform(0, np.pi)))


def tabletop(env: gymnasium.Env[Any, Any]) -> TabletopEnv:
    """Return the tabletop environment inside any wrappers.

    Raises:
        EnvError: If there is no such environment.
    """
    task = env.unwrapped
    if not isinstance(task, TabletopEnv):
        raise EnvError(
            f"Expected SpieRobo/Reach-v0, Push-v0 or PickPlace-v0, wrapped or not, got {env}: "
            "other environments do not describe their scene."
        )
    return task


def _check_arguments(
    width: int, height: int, reward_type: str, render_mode: str | None, distractors: int
) -> None:
    for name, value in (("width", width), ("height", height), ("distractors", distractors)):
        if not isinstance(value, int | np.integer):
            raise ConfigError(f"{name}: expected a whole number, got {value!r}.")
    if min(width, height) < 16:
        raise ConfigError(f"width, height: expected at least 16 pixels, got {width}x{height}.")
    if reward_type not in ("sparse", "shaped"):
        raise ConfigError(f"reward_type: expected 'sparse' or 'shaped', got {reward_type!r}.")
    if render_mode not in (None, "rgb_array"):
        raise ConfigError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}.")
    if not 0 <= distractors <= 5:
        raise ConfigError(f"distractors: expected 0 to 5, got {distractors}.")


def sample_xy(
    rng: np.random.Generator,
    x_range: tuple[float, float] = (0.36, 0.60),
    y_range: tuple[float, float] = (-0.20, 0.20),
) -> NDArray[np.float64]:
    """Draw a point on the table within the robot's reach, float64 (2,), metres."""
    return np.array([rng.uniform(*x_range), rng.uniform(*y_range)])
