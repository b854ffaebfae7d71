"""Domain randomisation: the baseline that people use today in place of edited frames."""

from __future__ import annotations

from typing import Any, TypeVar, final

import gymnasium as gym
import numpy as np

from spie_robo.envs.appearance import Appearance, RandomizationConfig
from spie_robo.envs.episode_seeds import EpisodeSeeds
from spie_robo.envs.tabletop_env import TabletopEnv, tabletop
from spie_robo.errors import EnvError

_ObsType = TypeVar("_ObsType")
_STREAM = 0xD0_4A17


@final
class DomainRandomizationWrapper(
    gym.Wrapper[Any, Any, Any, Any],
    gym.utils.RecordConstructorArgs,
):
    """Gives every episode random colours, textures, light and camera poses.

    What is drawn depends on the env's seed and the number of resets since, and on nothing else.
    Physics, rewards, spaces and the env's own random numbers stay as they are: an episode takes
    the same course with and without this wrapper. ``info["geometry"]`` describes the cameras
    as they were moved.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> from spie_robo.envs.randomization import DomainRandomizationWrapper
        >>> env = DomainRandomizationWrapper(gymnasium.make("SpieRobo/Push-v0"))
        >>> observation, info = env.reset(seed=0)
        >>> observation in env.observation_space
        True
    """

    def __init__(self, env: gym.Env[Any, Any], config: RandomizationConfig | None = None) -> None:
        """Wrap ``env``.

        Args:
            env: One of the ``SpieRobo`` environments, wrapped or not.
            config: What to randomise; None for :class:`RandomizationConfig`'s defaults.

        Raises:
            EnvError: If ``env`` is not a ``SpieRobo`` environment, or is randomised already.
        """
        config = RandomizationConfig() if config is None else config
        gym.utils.RecordConstructorArgs.__init__(self, config=config)
        gym.Wrapper.__init__(self, env)
        self._task: TabletopEnv = tabletop(env)
        if self._task.appearance is not None:
            raise EnvError(
                "This env is randomised already: expected at most one DomainRandomizationWrapper. "
                "Put all settings into one RandomizationConfig."
            )
        self._appearance = Appearance(self._task, config)
        self._seeds = EpisodeSeeds(self._task, _STREAM)
        self._task.appearance = self._draw

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with another look."""
        self._seeds.announce(seed)
        return self.env.reset(seed=seed, options=options)

    def restore(self) -> None:
        """Give the env the look back that it had; the next reset draws a new one."""
        self._appearance.restore()

    def close(self) -> None:
        """Undo everything and close the env."""
        if self._task.scene.client is not None:
            self._appearance.restore()
        self._task.appearance = None
        super().close()

    def _draw(self) -> None:
        self._appearance.draw(np.random.default_rng(self._seeds.next()))
