"""The photoreal twin as an environment: the same physics, seen through the path tracer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, SupportsFloat, final

import gymnasium as gym
import numpy as np

from spie_robo.envs.episode_seeds import EpisodeSeeds
from spie_robo.envs.scene_state import Role
from spie_robo.envs.tabletop_env import TabletopEnv
from spie_robo.envs.twin.lab_styles import sample_lab_style
from spie_robo.envs.twin.mitsuba_variant import mitsuba
from spie_robo.envs.twin.mujoco_cameras import CameraName
from spie_robo.envs.twin.renderer import TwinRenderer
from spie_robo.envs.twin.sensor import expose, metered_gain
from spie_robo.envs.twin.sources import (
    Cameras,
    MujocoSource,
    TabletopSource,
    TwinSource,
    replaced,
)
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
    """Shows an environment as its photoreal twin: ours, or any on MuJoCo.

    Camera images and ``render()`` are path-traced from the env's state; ``info["geometry"]`` stays
    what the simulator says, and is aligned with them. Physics, rewards and spaces do not change.
    Each info has ``info["style"]``: the name of the style.

    On MuJoCo (Gymnasium, Gymnasium-Robotics, Meta-World, gym-aloha, and Gymnasium wrappers of
    dm_control and robosuite) the room that the simulator leaves out is added, and the camera
    exposes for the first image after each reset.

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
        cameras: Cameras | None = None,
        samples: int = 4,
        sensor_noise: bool = True,
        roles: Mapping[str, Role] | None = None,
        render_camera: CameraName | None = None,
    ) -> None:
        """Wrap ``env``.

        Args:
            env: One of the ``SpieRobo`` environments or one on MuJoCo, wrapped or not.
            style: The name of one of ``NAMED_STYLES``, ``"style-N"`` or ``"lab-N"``, a style as a
                record or, as a spec in JSON has it, its fields; None samples one every episode
                from the env's seed.
            cameras: Which image observations to replace: their keys, or on MuJoCo a mapping from
                keys (``"pixels/top"``) to cameras of the model. None: all of ours, and on MuJoCo
                those whose key names a camera.
            samples: Samples per pixel before denoising.
            sensor_noise: Add the sensor's noise, new in every image.
            roles: On MuJoCo, what geoms and bodies are, by name or pattern; see
                :func:`spie_robo.envs.twin.mujoco_roles.geom_roles`.
            render_camera: On MuJoCo, the camera of ``render()`` where Gymnasium does not tell.

        Raises:
            EnvError: If ``env`` is neither a ``SpieRobo`` environment nor one on MuJoCo.
            ConfigError: If a style, field, role or camera is unknown, or ``samples`` is less
                than 1.
            MissingExtraError: If Mitsuba is not installed.
        """
        if isinstance(style, Mapping):
            style = from_mapping(Style, style)
        if samples < 1:
            raise ConfigError(f"samples: expected 1 or more, got {samples}.")
        if cameras is not None and not isinstance(cameras, Mapping):
            cameras = tuple(cameras)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            style=style,
            cameras=cameras,
            samples=samples,
            sensor_noise=sensor_noise,
            roles=roles,
            render_camera=render_camera,
        )
        gym.Wrapper.__init__(self, env)
        self._fixed_style = find_style(style) if isinstance(style, str) else style
        self._source = _find_source(env, cameras, roles, render_camera)
        self._sensor_noise = sensor_noise
        mitsuba()
        self._renderer = TwinRenderer(samples=samples)
        self._seeds = EpisodeSeeds(env, _STREAM)
        self._style = self._fixed_style or Style()
        self._noise = np.random.default_rng(0)
        self._gains: dict[str, float] = {}

    @property
    def style(self) -> Style:
        """The style of the present episode."""
        return self._style

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in another style if styles are sampled."""
        self._seeds.announce(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self._noise = np.random.default_rng(self._seeds.next())
        style_seed = int(self._noise.integers(2**31))
        self._style = self._fixed_style or sample_style(style_seed)
        self._gains = {}
        self._source.refit()
        return self._retake(observation), {**info, "style": self._style.name}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the env and path-trace what its cameras see now."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "style": self._style.name}
        return self._retake(observation), reward, terminated, truncated, info

    def render(self) -> RGB | None:
        """The twin of what the env renders if its ``render_mode`` is ``"rgb_array"``."""
        if self.env.render_mode != "rgb_array":
            return None
        raw: Any = self.env.render()
        # Not from the stream of noise: looking must not change what comes after.
        return self._photo("render()", self._source.render_camera(), raw.shape[:2], 0)

    def _retake(self, observation: Any) -> Any:
        for key, camera in self._source.images.items():
            observation = replaced(observation, key, functools.partial(self._replace, key, camera))
        return observation

    def _replace(self, key: str, camera: CameraName, image: RGB) -> RGB:
        return self._photo(key, camera, image.shape[:2], int(self._noise.integers(2**31)))

    def _photo(self, key: str, camera: Any, size: tuple[int, ...], seed: int) -> RGB:
        """Take a photo whose exposure stays that of the episode's first image."""
        state = self._source.state(camera, size[0], size[1])
        radiance = self._renderer.radiance(state, state.cameras[0].name, self._style, seed)
        if self._source.metered:
            gain = self._gains.setdefault(key, metered_gain(radiance))
            radiance = radiance * np.float32(gain)
        return expose(radiance, self._style.sensor, seed if self._sensor_noise else None)


def _find_source(
    env: gym.Env[Any, Any],
    cameras: Cameras | None,
    roles: Mapping[str, Role] | None,
    render_camera: CameraName | None,
) -> TwinSource:
    task = env.unwrapped
    if isinstance(task, TabletopEnv):
        return TabletopSource(task, cameras)
    return MujocoSource(env, cameras, roles, render_camera)


def find_style(name: str) -> Style:
    """The style called ``name``.

    Args:
        name: A named one; ``"style-N"`` or ``"lab-N"`` for the sampled one of seed N.

    Raises:
        ConfigError: If there is none.
    """
    if name in NAMED_STYLES:
        return NAMED_STYLES[name]
    prefix, _, number = name.partition("-")
    if prefix in ("style", "lab") and number.isdecimal():
        return (sample_style if prefix == "style" else sample_lab_style)(int(number))
    raise ConfigError(
        f"style: expected one of {sorted(NAMED_STYLES)}, 'style-N' or 'lab-N' with a number N, "
        f"got {name!r}."
    )
