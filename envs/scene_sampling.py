"""Draw random tabletop scenes, on which the editor and the guard's judge are trained.

The tasks' own scenes are special cases of these, with one cube, one goal and the robot above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from spie_robo.envs.cameras import DEFAULT_LIGHT, render
from spie_robo.envs.robot import WORKSPACE_HIGH, WORKSPACE_LOW, Panda
from spie_robo.envs.scene import TabletopScene
from spie_robo.envs.scene_state import SceneState
from spie_robo.envs.viewpoints import front_camera, wrist_camera
from spie_robo.types import Frame

_MAX_OBJECTS = 6
_CLEARANCE = 0.10


@dataclass(frozen=True, eq=False)
class SampledScene:
    """A random scene at one moment.

    Attributes:
        frame: Image and geometry from the simulator.
        state: The same moment as plain data, with the camera of the frame.
    """

    frame: Frame
    state: SceneState


@final
class SceneSampler:
    """A generator of random scenes; a scene is a function of its seed alone.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        wrist_share: Share of frames from the wrist camera.
        front_jitter: See :func:`~spie_robo.envs.viewpoints.front_camera`.
        recolor_room: Draw random colours for table, floor and wall in the simulator's image.
    """

    def __init__(
        self,
        height: int = 128,
        width: int = 128,
        wrist_share: float = 0.25,
        front_jitter: float = 0.06,
        recolor_room: bool = False,
    ) -> None:
        """Build the room and the robot; objects come with each sample."""
        self._size = (height, width)
        self._wrist_share = wrist_share
        self._front_jitter = front_jitter
        self._recolor_room = recolor_room
        self._scene = TabletopScene()
        self._robot = Panda(self._scene)
        self._objects: list[int] = []
        self._taken: list[tuple[float, float]] = []

    def sample(self, seed: int) -> SampledScene:
        """Draw the scene of a seed and render it."""
        rng = np.random.default_rng([seed, 0x5CE7E])
        self._clear()
        for index in range(rng.integers(1, _MAX_OBJECTS + 1)):
            self._add_object(rng, index)
        if rng.random() < 0.6:
            self._add_goal(rng)
        low, high = WORKSPACE_LOW + np.array([0, 0, 0.02]), WORKSPACE_HIGH
        self._robot.reset(rng.uniform(low, high), opening=float(rng.random()))
        if self._recolor_room:
            self._paint_room(rng)
        if rng.random() < self._wrist_share:
            camera = wrist_camera(self._robot, *self._size)
        else:
            camera = front_camera(*self._size, rng, self._front_jitter)
        rgb, geometry = render(self._scene.client, camera, self._scene.names, _light(rng))
        frame = Frame(rgb, camera.name, geometry)
        return SampledScene(frame, self._scene.state([camera]))

    def close(self) -> None:
        """Disconnect from the simulator."""
        self._scene.close()

    def _clear(self) -> None:
        for body in self._objects:
            self._scene.remove(body)
        self._objects = []
        self._taken = []

    def _paint_room(self, rng: np.random.Generator) -> None:
        for name in ("table", "floor", "wall"):
            for body in self._scene.bodies(name):
                color = [*_object_color(rng), 1.0]
                self._scene.client.changeVisualShape(body, -1, rgbaColor=color)

    def _free_spot(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw a place on the table away from other objects, or anywhere if it is crowded."""
        for _ in range(20):
            x, y = float(rng.uniform(0.28, 0.75)), float(rng.uniform(-0.38, 0.38))
            if all(np.hypot(x - a, y - b) > _CLEARANCE for a, b in self._taken):
                break
        self._taken.append((x, y))
        return x, y

    def _add_object(self, rng: np.random.Generator, index: int) -> None:
        name = "cube" if index == 0 else f"distractor_{index}"
        color = _object_color(rng)
        x, y = self._free_spot(rng)
        kind = rng.choice(["box", "cylinder", "sphere"]) if index else "box"
        scene = self._scene
        if kind == "box":
            edges = rng.uniform(0.035, 0.09, 3) if index else np.full(3, rng.uniform(0.035, 0.06))
            body = scene.add_box(name, edges, (x, y, edges[2] / 2), color=color, collide=False)
            scene.place(body, (x, y, edges[2] / 2), yaw=float(rng.uniform(0, np.pi)))
        elif kind == "sphere":
            radius = float(rng.uniform(0.022, 0.045))
            body = scene.add_sphere(name, radius, (x, y, radius), color=color, collide=False)
        else:
            radius, height = float(rng.uniform(0.02, 0.045)), float(rng.uniform(0.03, 0.16))
            body = scene.add_cylinder(
                name, radius, height, (x, y, height / 2), color=color, collide=False
            )
        self._objects.append(body)

    def _add_goal(self, rng: np.random.Generator) -> None:
        x, y = rng.uniform(0.3, 0.65), rng.uniform(-0.3, 0.3)
        radius = float(rng.uniform(0.03, 0.06))
        color = (0.15, 0.70, 0.25) if rng.random() < 0.5 else _object_color(rng)
        body = self._scene.add_cylinder(
            "goal", radius, 0.004, (x, y, 0.002), color=color, collide=False
        )
        self._objects.append(body)


def _object_color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a colour, mostly saturated like task objects', sometimes grey, white or black."""
    if rng.random() < 0.2:
        value = float(rng.uniform(0.05, 0.95))
        return (value, value, value)
    hue, saturation, value = rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.95)
    sector = hue * 6 + np.array([0.0, 4.0, 2.0])
    ramp = np.clip(np.abs(sector % 6 - 3) - 1, 0, 1)
    red, green, blue = value * (1 - saturation * (1 - ramp))
    return (float(red), float(green), float(blue))


def _light(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a light, so that the editor does not depend on one setting."""
    if rng.random() < 0.5:
        return dict(DEFAULT_LIGHT)
    return {**DEFAULT_LIGHT, "lightDirection": [*rng.uniform(-1.5, 1.5, 2).tolist(), 2.0]}
