"""Derive one seed an episode for draws that must not use an environment's own random numbers."""

from __future__ import annotations

from typing import Any, final

import gymnasium as gym


@final
class EpisodeSeeds:
    """Seeds that depend on the env's seed and on the number of resets after it.

    Args:
        env: The environment whose seed is used.
        stream: Number of the user, so that two users of one env draw different values.
    """

    def __init__(self, env: gym.Env[Any, Any], stream: int) -> None:
        """Start before the first reset."""
        self._env = env
        self._stream = stream
        self._episode = 0

    def announce(self, seed: int | None) -> None:
        """Store the seed of the coming reset."""
        if seed is not None:
            self._episode = 0

    def next(self) -> list[int]:
        """Return the seed of this episode, for ``numpy.random.default_rng``; call once a reset."""
        episode = self._episode
        self._episode += 1
        # The seed is -1 if the env's generator was set by hand.
        return [self._env.unwrapped.np_random_seed % 2**64, episode, self._stream]
