"""The scripted experts solve their tasks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import spie_robo.envs
from spie_robo.envs.experts import make_expert
from spie_robo.errors import EnvError
from spie_robo.types import PolicyLike


def successes(env_id: str, seeds: range) -> int:
    env = gym.make(env_id, width=16, height=16)
    expert = make_expert(env)
    solved = 0
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        expert.reset(seed)
        over = False
        while not over:
            action = expert.act(observation)
            assert action in env.action_space
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        solved += bool(info["success"])
    env.close()
    return solved


@pytest.mark.parametrize("env_id", spie_robo.envs.ENV_IDS)
def test_solves_three_seeds(env_id: str) -> None:
    assert successes(env_id, range(3)) == 3


def successes_unseen(env_id: str, seeds: range) -> int:
    """The same without looking, which is most of a step's time: experts do not use images."""
    env = gym.make(env_id, width=16, height=16)
    assert env.spec is not None and env.spec.max_episode_steps is not None
    task: Any = env.unwrapped
    expert = make_expert(env)
    solved = 0
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        expert.reset(seed)
        for _ in range(env.spec.max_episode_steps):
            task.advance(expert.act(observation))
            if task.success():
                solved += 1
                break
    env.close()
    return solved


@pytest.mark.slow
@pytest.mark.parametrize("env_id", spie_robo.envs.ENV_IDS)
def test_solves_95_of_100_seeds(env_id: str) -> None:
    assert successes_unseen(env_id, range(1000, 1100)) >= 95


def test_standing_still_does_not_count() -> None:
    env = gym.make("SpieRobo/Reach-v0", width=16, height=16)
    for seed in range(5):
        env.reset(seed=seed)
        info: dict[str, Any] = {}
        for _ in range(5):
            info = env.step(np.zeros(4, np.float32))[4]
        assert not info["success"]
    env.close()


def test_expert_is_a_policy_and_others_get_a_named_error() -> None:
    env = gym.make("SpieRobo/Reach-v0", width=16, height=16)
    assert isinstance(make_expert(env), PolicyLike)
    env.close()
    with pytest.raises(EnvError, match="no scripted expert"):
        make_expert(gym.make("CartPole-v1"))
