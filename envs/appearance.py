"""Draw random looks for a tabletop environment, and restore its first look."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.cameras import DEFAULT_LIGHT
from spie_robo.envs.scene_state import CameraPose
from spie_robo.envs.tabletop_env import TabletopEnv
from spie_robo.envs.twin.style import Material, Pattern
from spie_robo.envs.twin.textures import texture
from spie_robo.envs.viewpoints import front_camera
from spie_robo.errors import ConfigError

SURFACES = ("table", "wall", "floor")
TASK_BODIES = ("cube", "goal")
_PATTERNS: tuple[Pattern, ...] = (
    "wood", "planks", "speckled", "fabric", "plaster", "tiles", "bricks",
)  # fmt: skip
_SCALES = (0.6, 1.0, 1.6)
_TEXTURE_COUNT = len(_PATTERNS) * len(_SCALES)
_TEXTURE_PIXELS = 512


@final
@dataclass(frozen=True)
class RandomizationConfig:
    """Settings of a :class:`~spie_robo.envs.randomization.DomainRandomizationWrapper`.

    Attributes:
        colors: Draw the colours of table, wall, floor, robot and distractors.
        textures: Share of surfaces that get a procedural texture, 0 to 1.
        light: Draw the light's direction, colour and strength.
        front_camera: Standard deviation of the front camera's position in metres; its target
            moves by half of it and its field of view by 40 degrees per metre.
        wrist_camera: Standard deviation of the wrist camera's position in metres; it turns by
            2 degrees per centimetre.
        keep_task_colors: Keep the colours of cube and goal, because a policy may need them.
        bodies: Names of the bodies whose colour and texture may change; empty: all.

    Raises:
        ConfigError: If a number is out of range.
    """

    colors: bool = True
    textures: float = 0.7
    light: bool = True
    front_camera: float = 0.03
    wrist_camera: float = 0.005
    keep_task_colors: bool = True
    bodies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check ranges."""
        limits = {"textures": 1.0, "front_camera": 0.2, "wrist_camera": 0.03}
        for field in fields(self):
            if field.name == "bodies":
                continue
            value = getattr(self, field.name)
            limit = limits.get(field.name)
            if limit is None and not isinstance(value, bool):
                raise ConfigError(f"{field.name}: expected True or False, got {value!r}.")
            if limit is not None and not (isinstance(value, int | float) and 0 <= value <= limit):
                raise ConfigError(f"{field.name}: expected 0 to {limit}, got {value!r}.")


@dataclass(frozen=True)
class _Visual:
    """One visual shape as it was built, with its place in the body and its colour (rgba)."""

    body: int
    link: int
    index: int
    name: str
    color: tuple[float, ...]


@final
class Appearance:
    """A generator of looks for one environment, which also restores its first look.

    Args:
        env: The environment.
        config: Settings of the changes.
    """

    def __init__(self, env: TabletopEnv, config: RandomizationConfig) -> None:
        """Store the present look.

        Raises:
            ConfigError: If ``config`` names a body that the environment does not have.
        """
        self._env = env
        self._config = config
        self._visuals = _visuals(env)
        self._names = list(dict.fromkeys(visual.name for visual in self._visuals))
        unknown = sorted(set(config.bodies) - set(self._names))
        if unknown:
            raise ConfigError(f"bodies: expected some of {self._names}, got {unknown}.")
        self._front: CameraPose = env.front
        self._light = dict(env.light)
        self._textures: dict[int, int] = {}

    def draw(self, rng: np.random.Generator) -> None:
        """Draw a new look for the environment."""
        colors, textures, light, front, wrist = rng.spawn(5)
        self._draw_surfaces(colors, textures)
        if self._config.light:
            self._env.light = _random_light(light)
        height, width = self._front.height, self._front.width
        self._env.front = front_camera(height, width, front, self._config.front_camera)
        self._env.wrist_adjustment = _small_motion(wrist, self._config.wrist_camera)

    def restore(self) -> None:
        """Restore the environment's first look."""
        for visual in self._visuals:
            self._paint(visual, visual.color)
        self._env.light = dict(self._light)
        self._env.front = self._front
        self._env.wrist_adjustment = np.eye(4)

    def _draw_surfaces(self, colors: np.random.Generator, textures: np.random.Generator) -> None:
        config = self._config
        kept = TASK_BODIES if config.keep_task_colors else ()
        # Draw for every name, so that keeping one colour does not change the draws of others.
        tints = {name: colors.uniform(0.15, 1.0, 3) for name in self._names}
        chosen = {name: int(textures.integers(_TEXTURE_COUNT)) for name in SURFACES}
        textured = {name for name in SURFACES if textures.random() < config.textures}
        for visual in self._visuals:
            if config.bodies and visual.name not in config.bodies:
                continue
            texture_id = -1
            if visual.name in textured:
                texture_id = self._load_texture(chosen[visual.name])
            color = visual.color
            if config.colors and visual.name not in kept:
                color = _tint(visual, tints[visual.name])
            self._paint(visual, color, texture_id)

    def _paint(self, visual: _Visual, color: tuple[float, ...], texture_id: int = -1) -> None:
        options: dict[str, Any] = {"rgbaColor": list(color)}
        if visual.name in SURFACES:
            options["textureUniqueId"] = texture_id
        self._env.scene.client.changeVisualShape(visual.body, visual.link, visual.index, **options)

    def _load_texture(self, number: int) -> int:
        """Return PyBullet's id of a texture; PyBullet frees none, so each is loaded once."""
        if number not in self._textures:
            with tempfile.TemporaryDirectory(prefix="spie_robo_texture_") as folder:
                path = Path(folder) / f"{number}.png"
                path.write_bytes(_texture_png(number))
                self._textures[number] = int(self._env.scene.client.loadTexture(str(path)))
        return self._textures[number]


def _visuals(env: TabletopEnv) -> tuple[_Visual, ...]:
    visuals: list[_Visual] = []
    for body, name in env.scene.names.items():
        counts: dict[int, int] = {}
        for data in env.scene.client.getVisualShapeData(body):
            link = data[1]
            visuals.append(_Visual(body, link, counts.get(link, 0), name, tuple(data[7])))
            counts[link] = counts.get(link, 0) + 1
    return tuple(visuals)


def _tint(visual: _Visual, tint: NDArray[np.float64]) -> tuple[float, ...]:
    """Tint a shape; the robot keeps its light and dark parts."""
    if visual.name != "panda":
        return (*tint.tolist(), 1.0)
    own = np.array(visual.color[:3])
    return (*(own * (0.4 + 0.6 * tint)).tolist(), 1.0)


@functools.cache
def _texture_png(number: int) -> bytes:
    """Return a bright greyish texture as PNG, which the surface's colour then tints."""
    material = Material(
        pattern=_PATTERNS[number % len(_PATTERNS)],
        color=(0.95, 0.95, 0.95),
        accent=(0.45, 0.42, 0.40),
        scale=_SCALES[number // len(_PATTERNS)],
        seed=number,
    )
    image = texture(material, _TEXTURE_PIXELS, _TEXTURE_PIXELS)[..., ::-1]
    encoded: NDArray[np.uint8] = cv2.imencode(".png", (image * 255 + 0.5).astype(np.uint8))[1]
    return encoded.tobytes()


def _random_light(rng: np.random.Generator) -> dict[str, Any]:
    ambient = float(rng.uniform(0.4, 0.75))
    return {
        **DEFAULT_LIGHT,
        "lightDirection": [*rng.uniform(-2.0, 2.0, 2).tolist(), float(rng.uniform(1.0, 2.5))],
        "lightColor": rng.uniform(0.75, 1.0, 3).tolist(),
        "lightAmbientCoeff": ambient,
        "lightDiffuseCoeff": float(rng.uniform(0.15, 1.0 - ambient)),
        "lightSpecularCoeff": float(rng.uniform(0.0, 0.2)),
    }


def _small_motion(rng: np.random.Generator, deviation: float) -> NDArray[np.float64]:
    """Draw a rigid motion (4, 4) of ``deviation`` metres and 2 degrees per centimetre."""
    motion = np.eye(4)
    motion[:3, 3] = deviation * rng.standard_normal(3)
    turn = np.radians(200.0 * deviation) * rng.standard_normal(3)
    motion[:3, :3] = cv2.Rodrigues(turn)[0]
    return motion
