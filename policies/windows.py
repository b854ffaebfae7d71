"""Cut the rows of a store into training windows, padded as in Diffusion Policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import ConfigError, StoreError


@final
@dataclass(frozen=True)
class WindowShape:
    """Lengths of a window, and how far it may reach beyond its episode.

    Attributes:
        observation_horizon: Steps at the start of a window whose observations a policy sees.
        horizon: Steps of a window, each with an action.
        action_steps: Executed actions, the first of them at the newest observation.

    Raises:
        ConfigError: If the executed actions do not fit into the window.
    """

    observation_horizon: int = 1
    horizon: int = 8
    action_steps: int = 8

    def __post_init__(self) -> None:
        """Check that every part has a step and that the window holds them all."""
        for name in ("observation_horizon", "horizon", "action_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, got {getattr(self, name)}.")
        needed = self.observation_horizon - 1 + self.action_steps
        if self.horizon < needed:
            raise ConfigError(
                f"horizon: expected {needed} or more (observation_horizon - 1 + action_steps), got "
                f"{self.horizon}."
            )

    @property
    def shortest_episode(self) -> int:
        """Fewest steps of an episode that give a window."""
        return max(1, self.horizon - (self.observation_horizon - 1) - (self.action_steps - 1))


@final
@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of a store, each by its first row and the bounds of its episode.

    Attributes:
        start: int64, (windows,), row of the first step; before ``first`` where it is padded.
        first: int64, (windows,), first row of the episode.
        last: int64, (windows,), last row of the episode.
    """

    start: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.start)

    def rows(self, windows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return rows (len(windows), length), int64, of the first steps of some windows.

        A step before its episode gives the episode's first row, one after it the last.
        """
        steps = self.start[windows, None] + np.arange(length)
        rows: NDArray[np.int64] = np.clip(
            steps, self.first[windows, None], self.last[windows, None]
        )
        return rows


def index_windows(
    episode_ends: NDArray[np.int64], shape: WindowShape, where: str = "store"
) -> WindowIndex:
    """Index every window of a store, in the order of its rows.

    The rule is that of Diffusion Policy's ``SequenceSampler`` (Chi et al., RSS 2023;
    ``diffusion_policy/common/sampler.py``) with ``sequence_length = horizon``,
    ``pad_before = observation_horizon - 1`` and ``pad_after = action_steps - 1``: in an episode of
    n steps, windows start at steps ``-pad_before`` to ``n - horizon + pad_after``. Diffusion Policy
    silently leaves out episodes that are too short for a window; this function refuses them.

    Args:
        episode_ends: int64, (episodes,), cumulative and exclusive.
        shape: Lengths of the windows.
        where: Name of the store, for messages.

    Raises:
        StoreError: If there is no episode, or an episode is empty or too short for a window.
    """
    # Refuse stores without episodes, and episodes without a window.
    ends = np.asarray(episode_ends, np.int64)
    if not len(ends):
        raise StoreError(f"{where}: expected finished episodes, found none. Record some first.")
    firsts = np.concatenate([[0], ends[:-1]])
    lengths = ends - firsts
    short = np.flatnonzero(lengths < shape.shortest_episode)
    if len(short):
        episode = int(short[0])
        steps = int(lengths[episode])
        fit = "no steps" if steps < 1 else f"{steps} step{'s' if steps > 1 else ''}"
        raise StoreError(
            f"{where}: episode {episode} has {fit}, a window needs {shape.shortest_episode} "
            f"({len(short)} such episodes). " + _way_out(shape, steps)
        )
    # Number the windows of each episode.
    before = shape.observation_horizon - 1
    counts = lengths - shape.horizon + (shape.action_steps - 1) + before + 1
    first = np.repeat(firsts, counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return WindowIndex(first - before + number, first, np.repeat(ends, counts) - 1)


def _way_out(shape: WindowShape, steps: int) -> str:
    if steps < 1:
        return "Take it out of meta/episode_ends."
    executed = shape.action_steps + shape.shortest_episode - steps
    return f"Raise --action-steps to {executed}, lower --horizon, or record longer episodes."
