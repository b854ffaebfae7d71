"""Change one part of a scene's look strongly, for the robustness benchmark."""

from __future__ import annotations

from typing import Any, Literal, SupportsFloat, final, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.appearance import RandomizationConfig
from spie_robo.envs.cameras import DEFAULT_LIGHT
from spie_robo.envs.look_wrapper import LookWrapper
from spie_robo.envs.tabletop_env import CAMERAS, Observation
from spie_robo.envs.twin.sensor import sensor_noise
from spie_robo.errors import ConfigError

Perturbation = Literal[
    "light-intensity", "light-color", "background", "table-texture", "robot-texture", "camera-noise"
]
"""Kind of the change, as in NVIDIA's Isaac Lab Mimic robustness table."""

PERTURBATIONS: tuple[Perturbation, ...] = get_args(Perturbation)

_STREAM = 0x0_9E27
_BODIES: dict[str, tuple[str, ...]] = {
    "background": ("wall", "floor"),
    "table-texture": ("table",),
    "robot-texture": ("panda",),
}
_NOISE = 0.12


@final
class PerturbationWrapper(LookWrapper, gym.utils.RecordConstructorArgs):
    """A wrapper that gives every episode a new draw of one change of look.

    - ``light-intensity``: the light at 35 to 60 % or 150 to 180 % of its strength;
    - ``light-color``: one or two channels of the light at 35 to 60 %;
    - ``background``: wall and floor in another colour and texture;
    - ``table-texture``, ``robot-texture``: the table or the robot in another colour and texture;
    - ``camera-noise``: sensor noise of deviation up to 0.12 (of 0..1), new in every image.

    Physics, rewards, spaces and the env's own random numbers do not change; the draw depends only
    on the env's seed and on the number of resets since then.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> from spie_robo.envs.perturbations import PerturbationWrapper
        >>> env = PerturbationWrapper(gymnasium.make("SpieRobo/Push-v0"), "light-color")
        >>> observation, info = env.reset(seed=0)
        >>> observation in env.observation_space
        True
    """

    def __init__(self, env: gym.Env[Any, Any], kind: Perturbation) -> None:
        """Wrap ``env``.

        Args:
            env: One of the ``SpieRobo`` environments, wrapped or not.
            kind: Kind of the change.

        Raises:
            ConfigError: If there is no such kind.
            EnvError: If ``env`` is not a ``SpieRobo`` environment, or its look is drawn already.
        """
        if kind not in PERTURBATIONS:
            raise ConfigError(f"kind: expected one of {list(PERTURBATIONS)}, got {kind!r}.")
        gym.utils.RecordConstructorArgs.__init__(self, kind=kind)
        surfaces = kind in _BODIES
        config = RandomizationConfig(
            colors=surfaces,
            textures=float(surfaces),
            light=False,
            front_camera=0.0,
            wrist_camera=0.0,
            bodies=_BODIES.get(kind, ()),
        )
        LookWrapper.__init__(self, env, config, _STREAM)
        self._kind = kind
        self._noise = np.random.default_rng(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with a new draw."""
        observation, info = super().reset(seed=seed, options=options)
        return self._noisy(observation), info

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the env."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._noisy(observation), reward, terminated, truncated, info

    def _draw(self, rng: np.random.Generator) -> None:
        if self._kind in _BODIES:
            self._appearance.draw(rng)
        elif self._kind == "light-intensity":
            self._task.light = _dimmed_or_glaring(rng)
        elif self._kind == "light-color":
            self._task.light = {**DEFAULT_LIGHT, "lightColor": _tinted(rng)}
        self._noise = rng

    def _noisy(self, observation: Observation) -> Observation:
        if self._kind != "camera-noise":
            return observation
        changed = {}
        for camera in CAMERAS:
            image = observation[camera].astype(np.float32) / 255
            strength = float(self._noise.uniform(_NOISE / 2, _NOISE))
            image = image + sensor_noise(image, strength, int(self._noise.integers(2**31)))
            changed[camera] = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return {**observation, **changed}


def _dimmed_or_glaring(rng: np.random.Generator) -> dict[str, Any]:
    strength = float(rng.uniform(0.35, 0.6) if rng.random() < 0.5 else rng.uniform(1.5, 1.8))
    names = ("lightAmbientCoeff", "lightDiffuseCoeff", "lightSpecularCoeff")
    return {**DEFAULT_LIGHT, **{name: strength * DEFAULT_LIGHT[name] for name in names}}


def _tinted(rng: np.random.Generator) -> list[float]:
    weak = rng.permutation(3)[: int(rng.integers(1, 3))]
    color: NDArray[np.float64] = np.ones(3)
    color[weak] = rng.uniform(0.35, 0.6, len(weak))
    return [float(value) for value in color]
