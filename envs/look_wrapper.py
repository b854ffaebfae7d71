"""Share the code of wrappers that draw a new look at each reset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from spie_robo.envs.appearance import Appearance, RandomizationConfig
from spie_robo.envs.episode_seeds import EpisodeSeeds
from spie_robo.envs.tabletop_env import TabletopEnv, tabletop
from spie_robo.errors import EnvError


class LookWrapper(gym.Wrapper[Any, Any, Any, Any], ABC):
    """A wrapper that draws a look at each reset, and restores the first look at the end.

    The draw depends only on the env's seed and on the number of resets since then.

    Args:
        env: One of the ``SpieRobo`` environments, wrapped or not.
        config: Settings of the :class:`~spie_robo.envs.appearance.Appearance`.
        stream: Number of the wrapper, for its seeds.

    Raises:
        ConfigError: If ``config`` names a body that the environment does not have.
        EnvError: If ``env`` is not a ``SpieRobo`` environment, or its look is drawn already.
    """

    def __init__(self, env: gym.Env[Any, Any], config: RandomizationConfig, stream: int) -> None:
        """Store the present look."""
        super().__init__(env)
        self._task: TabletopEnv = tabletop(env)
        if self._task.appearance is not None:
            raise EnvError(
                "This env is randomised already: expected at most one DomainRandomizationWrapper "
                "or PerturbationWrapper. Put all settings into one RandomizationConfig."
            )
        self._appearance = Appearance(self._task, config)
        self._seeds = EpisodeSeeds(self._task, stream)
        self._task.appearance = lambda: self._draw(np.random.default_rng(self._seeds.next()))

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> None:
        """Draw a look, after all bodies are in place and before the first image."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with a new look."""
        self._seeds.announce(seed)
        return self.env.reset(seed=seed, options=options)

    def close(self) -> None:
        """Restore the first look and close the env."""
        if self._task.scene.client is not None:
            self._appearance.restore()
        self._task.appearance = None
        super().close()
