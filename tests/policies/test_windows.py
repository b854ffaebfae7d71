from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spie_robo.errors import ConfigError, StoreError
from spie_robo.policies.config import PolicyTrainConfig
from spie_robo.policies.windows import WindowShape, index_windows


def diffusion_policy_windows(ends: list[int], shape: WindowShape) -> list[list[int]]:
    """Rows of every window by the original's loops (create_indices, sample_sequence)."""
    before, after = shape.observation_horizon - 1, shape.action_steps - 1
    length = shape.horizon
    windows = []
    for i, end in enumerate(ends):
        start = 0 if i == 0 else ends[i - 1]
        episode_length = end - start
        for idx in range(-before, episode_length - length + after + 1):
            buffer_start = max(idx, 0) + start
            buffer_end = min(idx + length, episode_length) + start
            sample_start = buffer_start - (idx + start)
            sample_end = length - ((idx + length + start) - buffer_end)
            sample = list(range(buffer_start, buffer_end))
            window = [-1] * length
            window[:sample_start] = [sample[0]] * sample_start
            window[sample_end:] = [sample[-1]] * (length - sample_end)
            window[sample_start:sample_end] = sample
            windows.append(window)
    return windows


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    seen=st.integers(1, 4),
    executed=st.integers(1, 6),
    more=st.integers(0, 8),
)
def test_windows_are_those_of_diffusion_policy(
    lengths: list[int], seen: int, executed: int, more: int
) -> None:
    shape = WindowShape(seen, seen - 1 + executed + more, executed)
    ends = np.cumsum(lengths)
    expected = diffusion_policy_windows(ends.tolist(), shape)
    if min(lengths) < shape.shortest_episode:
        with pytest.raises(StoreError, match="a window needs"):
            index_windows(ends, shape)
        assert len(expected) < sum(diffusion_policy_counts(lengths, shape, least=1))
        return
    index = index_windows(ends, shape)
    rows = index.rows(np.arange(len(index)), shape.horizon)
    assert rows.tolist() == expected


def diffusion_policy_counts(lengths: list[int], shape: WindowShape, least: int) -> list[int]:
    one_each = [len(diffusion_policy_windows([length], shape)) for length in lengths]
    return [max(least, count) for count in one_each]


def test_hand_computed_padding() -> None:
    index = index_windows(np.array([3]), WindowShape(2, 4, 2))
    rows = index.rows(np.arange(len(index)), 4)
    assert rows.tolist() == [[0, 0, 1, 2], [0, 1, 2, 2]]


def test_a_one_step_episode_is_one_window_of_that_step() -> None:
    index = index_windows(np.array([1]), WindowShape(2, 4, 3))
    assert index.rows(np.arange(len(index)), 4).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([], "found none"),
        ([5, 5], r"episode 1 has no steps.*Take it out of meta/episode_ends"),
        ([9, 10], r"episode 1 has 1 step, a window needs 4.*Raise --action-steps to 8"),
    ],
)
def test_refuses_stores_without_windows(ends: list[int], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        index_windows(np.array(ends, np.int64), WindowShape(1, 8, 5))


def test_the_way_out_of_short_episodes_leads_out() -> None:
    """Also where no --horizon was given, and diffusion made it even."""
    stubborn = PolicyTrainConfig(
        (Path("s"),), Path("o"), "diffusion", observation_horizon=2, action_steps=4
    )
    ends = np.array([9, 10], np.int64)
    with pytest.raises(StoreError, match="Raise --action-steps to 5"):
        index_windows(ends, window(stubborn))
    assert len(index_windows(ends, window(dataclasses.replace(stubborn, action_steps=5))))


def window(config: PolicyTrainConfig) -> WindowShape:
    return WindowShape(config.observation_horizon, config.chunk_length, config.action_steps)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 4, 4), "observation_horizon"), ((1, 3, 4), "horizon: expected 4"), ((3, 5, 4), "6")],
)
def test_refuses_lengths_that_do_not_fit(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WindowShape(*shape)
