from __future__ import annotations

import pytest
import torch

from spie_robo.errors import ConfigError
from spie_robo.settings.ranges import MAX_SEED, require_at_least, require_between, require_seed


def test_bounds_belong_to_a_range() -> None:
    require_at_least("steps", 1, 1)
    require_between("steps", 1, 1, 2)
    require_between("steps", 2, 1, 2)
    require_seed(0)
    require_seed(MAX_SEED)


def test_what_is_outside_is_named() -> None:
    with pytest.raises(ConfigError, match="steps: expected 1 or more, got 0"):
        require_at_least("steps", 0, 1)
    with pytest.raises(ConfigError, match="steps: expected 2 or less, got 3"):
        require_between("steps", 3, 1, 2)
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(ConfigError, match=f"seed: expected .* got {seed}"):
            require_seed(seed)


def test_the_largest_seed_and_those_of_later_episodes_are_taken_by_torch() -> None:
    largest = MAX_SEED + 10**12
    assert torch.Generator().manual_seed(largest).initial_seed() == largest
