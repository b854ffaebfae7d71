"""One seed an episode for things that must not touch an environment's own random numbers."""

from __future__ import annotations

from typing import final

from spie_robo.envs.tabletop_env import TabletopEnv


@final
class EpisodeSeeds:
    """Seeds that depend on the env's seed and on how many resets came after it.

    Args:
        env: The environment whose seed counts.
        stream: A number of one's own, so that two users of one env draw different things.
    """

    def __init__(self, env: TabletopEnv, stream: int) -> None:
        """Wait for the first reset."""
        self._env = env
        self._stream = stream
        self._episode = 0

    def announce(self, seed: int | None) -> None:
        """Say what the coming reset was called with."""
        if seed is not None:
            self._episode = 0

    def next(self) -> list[int]:
        """The seed of this episode, for ``numpy.random.default_rng``; once a reset."""
        episode = self._episode
        self._episode += 1
        # -1 stands for an env whose generator was set by hand.
        return [self._env.np_random_seed % 2**64, episode, self._stream]
