"""What wrappers that draw a new look at each reset have in common."""

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
    """Draws how an environment looks at each of its resets, and undoes it at the end.

    What is drawn depends on the env's seed and the number of resets since, and on nothing else.

    Args:
        env: One of the ``SpieRobo`` environments, wrapped or not.
        config: What its :class:`~spie_robo.envs.appearance.Appearance` draws.
        stream: A number of the wrapper's own, for its seeds.

    Raises:
        ConfigError: If ``config`` names a body that the environment does not have.
        EnvError: If ``env`` is not a ``SpieRobo`` environment, or its look is drawn already.
    """

    def __init__(self, env: gym.Env[Any, Any], config: RandomizationConfig, stream: int) -> None:
        """Note how everything looks now."""
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
        """Give the env another look, when everything is in place and no image is taken yet."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with another look."""
        self._seeds.announce(seed)
        return self.env.reset(seed=seed, options=options)

    def close(self) -> None:
        """Undo everything and close the env."""
        if self._task.scene.client is not None:
            self._appearance.restore()
        self._task.appearance = None
        super().close()
