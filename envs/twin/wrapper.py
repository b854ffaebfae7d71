"""The photoreal twin as an environment: the same physics, seen through the path tracer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat, final

import gymnasium as gym
import numpy as np

from spie_robo.envs.episode_seeds import EpisodeSeeds
from spie_robo.envs.tabletop_env import CAMERAS, Observation, TabletopEnv, tabletop
from spie_robo.envs.twin.mitsuba_variant import mitsuba
from spie_robo.envs.twin.renderer import TwinRenderer
from spie_robo.envs.twin.style import NAMED_STYLES, Style, sample_style
from spie_robo.errors import ConfigError
from spie_robo.settings.yaml_files import from_mapping
from spie_robo.types import RGB

_STREAM = 0x7_3171


@final
class TwinWrapper(
    gym.Wrapper[Any, Any, Any, Any],
    gym.utils.RecordConstructorArgs,
):
    """Shows a ``SpieRobo`` environment as its photoreal twin.

    Camera images are path-traced from the env's state; ``info["geometry"]`` stays what the
    simulator says, and is aligned with them. Physics, rewards and spaces do not change. Each
    info has ``info["style"]``: the name of the style.

    Equal reset seeds give equal images. An image takes a fraction of a second, and memory grows
    slowly: :mod:`spie_robo.envs.twin.pool` renders many states without that.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> from spie_robo.envs.twin import TwinWrapper
        >>> env = TwinWrapper(gymnasium.make("SpieRobo/Push-v0"), style="oak-lab")
        >>> observation, info = env.reset(seed=0)
        >>> observation in env.observation_space, info["style"]
        (True, 'oak-lab')
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        style: str | Style | Mapping[str, Any] | None = None,
        *,
        cameras: Sequence[str] = CAMERAS,
        samples: int = 4,
        sensor_noise: bool = True,
    ) -> None:
        """Wrap ``env``.

        Args:
            env: One of the ``SpieRobo`` environments, wrapped or not.
            style: The name of one of ``NAMED_STYLES``, a style as a record or, as a spec in JSON
                has it, its fields; None samples one every episode from the env's seed.
            cameras: Which images to replace.
            samples: Samples per pixel before denoising.
            sensor_noise: Add the sensor's noise, new in every image.

        Raises:
            EnvError: If ``env`` is not a ``SpieRobo`` environment.
            ConfigError: If a style, field or camera is unknown, or ``samples`` is less than 1.
            MissingExtraError: If Mitsuba is not installed.
        """
        if isinstance(style, Mapping):
            style = from_mapping(Style, style)
        if samples < 1:
            raise ConfigError(f"samples: expected 1 or more, got {samples}.")
        unknown = [name for name in cameras if name not in CAMERAS]
        if unknown:
            raise ConfigError(f"cameras: expected some of {list(CAMERAS)}, got {unknown}.")
        gym.utils.RecordConstructorArgs.__init__(
            self, style=style, cameras=tuple(cameras), samples=samples, sensor_noise=sensor_noise
        )
        gym.Wrapper.__init__(self, env)
        self._task: TabletopEnv = tabletop(env)
        self._fixed_style = find_style(style) if isinstance(style, str) else style
        self._cameras = tuple(cameras)
        self._sensor_noise = sensor_noise
        mitsuba()
        self._renderer = TwinRenderer(samples=samples)
        self._seeds = EpisodeSeeds(self._task, _STREAM)
        self._style = self._fixed_style or Style()
        self._noise = np.random.default_rng(0)

    @property
    def style(self) -> Style:
        """The style of the present episode."""
        return self._style

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode, in another style if styles are sampled."""
        self._seeds.announce(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self._noise = np.random.default_rng(self._seeds.next())
        style_seed = int(self._noise.integers(2**31))
        self._style = self._fixed_style or sample_style(style_seed)
        return self._retake(observation), {**info, "style": self._style.name}

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the env and path-trace what its cameras see now."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "style": self._style.name}
        return self._retake(observation), reward, terminated, truncated, info

    def render(self) -> RGB | None:
        """The twin's front image if the env's ``render_mode`` is ``"rgb_array"``."""
        if self.env.render_mode != "rgb_array":
            return None
        # Not from the stream of noise: looking must not change what comes after.
        return self._renderer.render(
            self._task.scene_state(), "front", self._style, 0, sensor_noise=self._sensor_noise
        )

    def _retake(self, observation: Observation) -> Observation:
        state = self._task.scene_state()
        images = {
            camera: self._renderer.render(
                state, camera, self._style, int(self._noise.integers(2**31)), self._sensor_noise
            )
            for camera in self._cameras
        }
        return {**observation, **images}


def find_style(name: str) -> Style:
    """The style called ``name``: a named one, or ``"style-N"`` for the sampled one of seed N.

    Raises:
        ConfigError: If there is none.
    """
    if name in NAMED_STYLES:
        return NAMED_STYLES[name]
    prefix, _, number = name.partition("-")
    if prefix == "style" and number.isdecimal():
        return sample_style(int(number))
    raise ConfigError(
        f"style: expected one of {sorted(NAMED_STYLES)} or 'style-N' with a number N, got {name!r}."
    )
