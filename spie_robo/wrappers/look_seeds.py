"""The seeds that make an env's look a function of its reset seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import numpy as np

from spie_robo.errors import ConfigError

SeedPer = Literal["episode", "step"]

# Keeps the looks independent of the env's own draws, which start from the same reset seed.
_SPAWN_KEY = (0x5E1E,)
_SEED_LIMIT = 2**31 - 1


@final
class LookSeeds:
    """Seeds of one env's edits: one an episode, or one a step.

    They come from a stream of their own that starts at the env's reset seed, so that the env's
    random numbers, and with them its physics, stay what they are without the wrapper.

    Example:
        >>> seeds = LookSeeds("episode")
        >>> seeds.begin(reset_seed=7)
        >>> first = seeds.next()
        >>> first == seeds.next()
        True
        >>> seeds.begin()
        >>> first == seeds.next()
        False
    """

    def __init__(self, per: SeedPer = "episode") -> None:
        """Choose how often the look changes.

        Raises:
            ConfigError: If ``per`` is neither ``"episode"`` nor ``"step"``.
        """
        if per not in ("episode", "step"):
            raise ConfigError(f"seed_per: expected 'episode' or 'step', got {per!r}.")
        self._per = per
        self._episodes: np.random.Generator | None = None
        self._steps = np.random.default_rng(0)
        self.episode_seed = 0

    def begin(
        self,
        reset_seed: int | None = None,
        env_seed: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Start an episode.

        Args:
            reset_seed: Seed that the env was reset with; None goes on with the stream.
            env_seed: Asked, at the first reset, if that had no seed: the seed that the env chose
                for itself; None or a negative number if it does not know.
        """
        if reset_seed is None and self._episodes is None:
            chosen = env_seed()
            reset_seed = chosen if chosen is not None and chosen >= 0 else None
        if reset_seed is not None or self._episodes is None:
            entropy = None if reset_seed is None else int(reset_seed)
            sequence = np.random.SeedSequence(entropy, spawn_key=_SPAWN_KEY)
            self._episodes = np.random.default_rng(sequence)
        self.episode_seed = int(self._episodes.integers(_SEED_LIMIT))
        self._steps = np.random.default_rng(self.episode_seed)

    def next(self) -> int:
        """Return the seed of the next frame's edit; the same for all cameras of that moment."""
        return (
            self.episode_seed if self._per == "episode" else int(self._steps.integers(_SEED_LIMIT))
        )
