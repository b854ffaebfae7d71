"""Randomise the domain: the usual baseline in place of edited frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import gymnasium as gym
import numpy as np

from spie_robo.envs.appearance import RandomizationConfig
from spie_robo.envs.look_wrapper import LookWrapper
from spie_robo.settings.yaml_files import from_mapping

_STREAM = 0xD0_4A17


@final
class DomainRandomizationWrapper(LookWrapper, gym.utils.RecordConstructorArgs):
    """A wrapper that gives every episode random colours, textures, light and camera poses.

    The draw depends only on the env's seed and on the number of resets since then. Physics,
    rewards, spaces and the env's own random numbers do not change: an episode takes the same course
    with and without this wrapper. ``info["geometry"]`` describes the cameras after they were moved.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> from spie_robo.envs.randomization import DomainRandomizationWrapper
        >>> env = DomainRandomizationWrapper(gymnasium.make("SpieRobo/Push-v0"))
        >>> observation, info = env.reset(seed=0)
        >>> observation in env.observation_space
        True
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        config: RandomizationConfig | Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap ``env``.

        Args:
            env: One of the ``SpieRobo`` environments, wrapped or not.
            config: Settings, as a record or as a mapping of its fields, as in a JSON spec; None
                uses :class:`RandomizationConfig`'s defaults.

        Raises:
            ConfigError: If a field is unknown or out of its range.
            EnvError: If ``env`` is not a ``SpieRobo`` environment, or is randomised already.
        """
        if isinstance(config, Mapping):
            config = from_mapping(RandomizationConfig, config)
        config = RandomizationConfig() if config is None else config
        gym.utils.RecordConstructorArgs.__init__(self, config=config)
        LookWrapper.__init__(self, env, config, _STREAM)

    def restore(self) -> None:
        """Restore the env's first look; the next reset draws a new one."""
        self._appearance.restore()

    def _draw(self, rng: np.random.Generator) -> None:
        self._appearance.draw(rng)
