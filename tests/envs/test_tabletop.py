"""Spaces, rewards, determinism and arguments of the tabletop environments."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import spie_robo.envs
from spie_robo.envs.experts import make_expert
from spie_robo.errors import ConfigError, EnvError

Step = tuple[dict[str, Any], float]


def make(env_id: str, **options: Any) -> Any:
    return gym.make(env_id, **{"width": 32, "height": 32, **options}).unwrapped


def actions(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, 4).astype(np.float32) for _ in range(count)]


def episode(env: Any, seed: int | None, steps: int = 6) -> list[Step]:
    observation, _ = env.reset(seed=seed)
    record: list[Step] = [(observation, 0.0)]
    for action in actions(steps):
        observation, reward, *_ = env.step(action)
        record.append((observation, reward))
    return record


def assert_same(one: list[Step], other: list[Step]) -> None:
    for (observation, reward), (expected, expected_reward) in zip(one, other, strict=True):
        assert reward == expected_reward
        for key, value in expected.items():
            np.testing.assert_array_equal(observation[key], value, err_msg=key)


@pytest.mark.parametrize("env_id", spie_robo.envs.ENV_IDS)
def test_checker_has_nothing_to_say(env_id: str) -> None:
    env = make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


@pytest.mark.parametrize(("width", "height"), [(64, 48), (128, 128), (256, 192)])
def test_observations_are_in_their_space_at_any_size(width: int, height: int) -> None:
    env = make("SpieRobo/Push-v0", width=width, height=height)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["front"].shape == observation["wrist"].shape == (height, width, 3)
    assert observation["state"].dtype == np.float32
    assert info["geometry"]["front"].depth.shape == (height, width)
    env.close()


def test_default_size() -> None:
    env = gym.make("SpieRobo/Reach-v0")
    assert env.observation_space["front"].shape == (128, 128, 3)  # type: ignore[index]
    assert env.spec is not None and env.spec.max_episode_steps == 60
    env.close()


@pytest.mark.parametrize("env_id", spie_robo.envs.ENV_IDS)
def test_two_interleaved_instances_are_alone(env_id: str) -> None:
    expected = episode(make(env_id, distractors=3), seed=7)
    one, other = make(env_id, distractors=3), make(env_id, distractors=1)
    records: list[list[Step]] = [[(one.reset(seed=7)[0], 0.0)], [(other.reset(seed=8)[0], 0.0)]]
    for action in actions(6):
        for env, record in zip((one, other), records, strict=True):
            observation, reward, *_ = env.step(action)
            record.append((observation, reward))
    assert_same(records[0], expected)
    assert not np.array_equal(records[1][0][0]["front"], expected[0][0]["front"])


@pytest.mark.parametrize("env_id", spie_robo.envs.ENV_IDS)
def test_used_env_equals_fresh_one_in_any_order_of_resets(env_id: str) -> None:
    fresh = {seed: episode(make(env_id), seed, steps=25) for seed in (1, 2)}
    used = make(env_id)
    for seed in (2, 1, 1, 2):
        assert_same(episode(used, seed, steps=25), fresh[seed])


def physics(env: Any) -> tuple[Any, ...]:
    client = env.scene.client
    joints = tuple(client.getJointState(env.scene.panda, joint)[:2] for joint in range(12))
    return joints, tuple(client.getBasePositionAndOrientation(body) for body in env.scene.names)


def _expert_run(env: Any, seed: int) -> list[tuple[Any, ...]]:
    expert = make_expert(env)
    observation, _ = env.reset(seed=seed)
    record = [physics(env)]
    for _ in range(30):
        observation = env.step(expert.act(observation))[0]
        record.append(physics(env))
    return record


@pytest.mark.parametrize("env_id", ["SpieRobo/Push-v0", "SpieRobo/PickPlace-v0"])
def test_contacts_of_the_last_episode_are_forgotten(env_id: str) -> None:
    """To the last bit of float64: cached contact points once moved the cube by micrometres."""
    small = {"width": 16, "height": 16, "distractors": 2}
    fresh = {seed: _expert_run(make(env_id, **small), seed) for seed in (1, 2)}
    used = make(env_id, **small)
    for seed in (2, 1, 2):
        assert _expert_run(used, seed) == fresh[seed]


def test_resets_without_seed_go_on_with_the_first_one() -> None:
    one, other = make("SpieRobo/Push-v0"), make("SpieRobo/Push-v0")
    first, again = episode(one, 3), episode(other, 3)
    assert_same(again, first)
    second = episode(one, None)
    assert_same(episode(other, None), second)
    assert not np.array_equal(first[0][0]["front"], second[0][0]["front"])


def test_sparse_and_shaped_reward() -> None:
    sparse, shaped = make("SpieRobo/Push-v0"), make("SpieRobo/Push-v0", reward_type="shaped")
    for env in (sparse, shaped):
        env.reset(seed=0)
    for action in actions(4):
        plain, dense = sparse.step(action)[1], shaped.step(action)[1]
        assert plain == float(sparse.success()) == 0.0
        assert dense == pytest.approx(-shaped.distance()) and dense < 0


def test_success_ends_the_episode_with_reward_one() -> None:
    env = make("SpieRobo/Push-v0")
    env.reset(seed=0)
    env.scene.place(env._cube_body, (*env.goal[:2], 0.025))
    _, reward, terminated, truncated, info = env.step(np.zeros(4, np.float32))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["success"] and info["is_success"]


def test_push_gripper_stays_closed() -> None:
    env = make("SpieRobo/Push-v0")
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([0, 0, 0, 1], np.float32))
    assert env.robot.opening < 0.005


def test_action_moves_the_hand_as_it_says() -> None:
    env = make("SpieRobo/PickPlace-v0")
    env.reset(seed=0)
    start = env.robot.grasp_position
    for _ in range(2):
        env.step(np.array([0.5, -0.5, 0, -1], np.float32))
    for _ in range(6):
        env.step(np.array([0, 0, 0, -1], np.float32))
    np.testing.assert_allclose(env.robot.grasp_position - start, [0.05, -0.05, 0], atol=0.008)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"width": 8}, "width"),
        ({"height": 64.0}, "height"),
        ({"reward_type": "dense"}, "reward_type"),
        ({"render_mode": "human"}, "render_mode"),
        ({"distractors": 6}, "distractors"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], word: str) -> None:
    from spie_robo.envs.push import PushEnv

    with pytest.raises(ConfigError, match=word):
        PushEnv(**options)


def test_unknown_renderer_is_named() -> None:
    from spie_robo.envs.push import PushEnv

    with pytest.raises(EnvError, match="renderer"):
        PushEnv(renderer="vulkan")  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [np.zeros(3, np.float32), np.full(4, np.nan, np.float32)])
def test_bad_actions_are_named(action: np.ndarray) -> None:
    env = make("SpieRobo/Reach-v0")
    env.reset(seed=0)
    with pytest.raises(EnvError, match="action"):
        env.step(action)


def test_egl_says_where_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from spie_robo.envs import cameras

    monkeypatch.setattr(cameras, "egl_available", lambda: False)
    assert cameras.load_hardware_renderer(None, "auto") is False
    with pytest.raises(EnvError, match="EGL"):
        cameras.load_hardware_renderer(None, "egl")


def test_close_twice() -> None:
    env = make("SpieRobo/Reach-v0")
    for _ in range(2):
        env.close()
        assert env.unwrapped.scene.client is None


def _vector_first(env: Any) -> dict[str, np.ndarray]:
    env.reset(seed=[5, 6])
    batch = np.stack([actions(1, 1)[0], actions(1, 2)[0]])
    observation: dict[str, np.ndarray] = {
        key: np.array(value) for key, value in env.step(batch)[0].items()
    }
    env.close()
    return observation


@pytest.mark.slow
def test_vector_envs_agree() -> None:
    options = {"width": 32, "height": 32}
    sync = gym.make_vec("SpieRobo/Push-v0", 2, "sync", **options)
    asynchronous = gym.make_vec(
        "SpieRobo/Push-v0", 2, "async", vector_kwargs={"context": "spawn"}, **options
    )
    one, other = _vector_first(sync), _vector_first(asynchronous)
    assert one["front"].shape == (2, 32, 32, 3)
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)
    single = make("SpieRobo/Push-v0")
    single.reset(seed=6)
    expected = single.step(actions(1, 2)[0])[0]
    np.testing.assert_array_equal(one["front"][1], expected["front"])
