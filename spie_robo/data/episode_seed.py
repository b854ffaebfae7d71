"""Derive one seed for each episode from the seed of a run."""

from __future__ import annotations

import numpy as np


def episode_seed(seed: int, episode: int) -> int:
    """Derive the seed that all frames of an episode share.

    One seed an episode keeps the look in place over time and across cameras.

    Args:
        seed: Seed of the whole run, 0 or more.
        episode: Index of the episode.

    Returns:
        An integer in [0, 2**32).
    """
    return int(np.random.SeedSequence([seed, episode]).generate_state(1, np.uint32)[0])
