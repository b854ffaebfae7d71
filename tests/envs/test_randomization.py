"""Domain randomisation changes looks, and only looks."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from spie_robo.envs.appearance import RandomizationConfig
from spie_robo.envs.randomization import DomainRandomizationWrapper
from spie_robo.errors import ConfigError, EnvError

ONLY_NOTHING = RandomizationConfig(
    colors=False, textures=0.0, light=False, front_camera=0.0, wrist_camera=0.0
)


def plain(**options: Any) -> Any:
    return gym.make("SpieRobo/Push-v0", **{"width": 48, "height": 48, "distractors": 2, **options})


def randomized(config: RandomizationConfig | None = None, **options: Any) -> Any:
    return DomainRandomizationWrapper(plain(**options), config)


def mean_color(observation: Any, info: Any, name: str) -> np.ndarray:
    geometry = info["geometry"]["front"]
    ids = [body for body, other in geometry.names.items() if other == name]
    color: np.ndarray = observation["front"][np.isin(geometry.segmentation, ids)].mean(axis=0)
    return color


def test_checker_has_nothing_to_say() -> None:
    env = randomized(render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It says so of every wrapped env.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(env)
    env.close()


def test_same_seed_same_look_in_used_and_fresh_envs() -> None:
    fresh, used = randomized(), randomized()
    used.reset(seed=1)
    used.reset()
    for seed in (5, 6):
        one, other = fresh.reset(seed=seed)[0], used.reset(seed=seed)[0]
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)
    again, other = fresh.reset()[0], used.reset()[0]
    np.testing.assert_array_equal(again["front"], other["front"])
    assert not np.array_equal(again["front"], one["front"])


def test_physics_and_random_numbers_do_not_change() -> None:
    env, reference = randomized(), plain()
    for seed in (3, None):
        states = [e.reset(seed=seed)[0]["state"] for e in (env, reference)]
        np.testing.assert_array_equal(*states)
        for _ in range(5):
            action = np.array([0.5, 0.2, -1, 0], np.float32)
            one, other = env.step(action), reference.step(action)
            np.testing.assert_array_equal(one[0]["state"], other[0]["state"])
            assert one[1:4] == other[1:4]
        np.testing.assert_array_equal(env.unwrapped.cube, reference.unwrapped.cube)


def test_first_observation_already_shows_the_new_look() -> None:
    env, reference = randomized(), plain()
    observation, info = env.reset(seed=0)
    before, before_info = reference.reset(seed=0)
    assert np.abs(mean_color(observation, info, "table")
                  - mean_color(before, before_info, "table")).max() > 20  # fmt: skip
    looked = env.unwrapped._observe()[0]
    np.testing.assert_array_equal(looked["front"], observation["front"])


def test_nothing_chosen_changes_nothing() -> None:
    observation, expected = randomized(ONLY_NOTHING).reset(seed=2)[0], plain().reset(seed=2)[0]
    np.testing.assert_array_equal(observation["front"], expected["front"])
    np.testing.assert_array_equal(observation["wrist"], expected["wrist"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("colors", True), ("textures", 1.0), ("light", True), ("front_camera", 0.03)],
)
def test_each_option_changes_the_image(option: str, value: Any) -> None:
    config = dataclasses.replace(ONLY_NOTHING, **{option: value})
    observation, expected = randomized(config).reset(seed=2)[0], plain().reset(seed=2)[0]
    assert np.abs(observation["front"].astype(int) - expected["front"]).mean() > 1


def test_wrist_camera_moves_a_little() -> None:
    config = dataclasses.replace(ONLY_NOTHING, wrist_camera=0.01)
    moved, stood = randomized(config).reset(seed=2)[1], plain().reset(seed=2)[1]
    matrices = [info["geometry"]["wrist"].extrinsics for info in (moved, stood)]
    eyes = [-m[:3, :3].T @ m[:3, 3] for m in matrices]
    assert 0.001 < np.linalg.norm(eyes[0] - eyes[1]) < 0.06
    front = [info["geometry"]["front"].extrinsics for info in (moved, stood)]
    np.testing.assert_array_equal(*front)


@pytest.mark.parametrize("keep", [True, False])
def test_task_colors_stay_unless_asked_for(keep: bool) -> None:
    config = dataclasses.replace(ONLY_NOTHING, colors=True, keep_task_colors=keep)
    env, reference = randomized(config), plain()
    changes = []
    for seed in range(4):
        one, other = env.reset(seed=seed), reference.reset(seed=seed)
        changes.append(np.abs(mean_color(*one, "cube") - mean_color(*other, "cube")).max())
    assert max(changes) == 0 if keep else max(changes) > 30


def test_textures_vary_within_a_surface() -> None:
    config = dataclasses.replace(ONLY_NOTHING, textures=1.0)
    observation, info = randomized(config).reset(seed=1)
    before = plain().reset(seed=1)[0]
    table = [b for b, n in info["geometry"]["front"].names.items() if n == "table"]
    mask = np.isin(info["geometry"]["front"].segmentation, table)
    assert observation["front"][mask].std() > before["front"][mask].std() + 3


def test_undone_on_restore_and_close() -> None:
    env = randomized()
    env.reset(seed=4)
    env.restore()
    expected = plain().reset(seed=4)[0]
    observation = env.unwrapped._observe()[0]
    np.testing.assert_array_equal(observation["front"], expected["front"])
    np.testing.assert_array_equal(observation["wrist"], expected["wrist"])
    env.close()
    env.close()
    assert env.unwrapped.appearance is None


def test_spec_rebuilds_it() -> None:
    config = RandomizationConfig(textures=0.5)
    env = randomized(config)
    expected = env.reset(seed=1)[0]["front"]
    for spec in (env.spec, EnvSpec.from_json(env.spec.to_json())):
        again = gym.make(spec)
        assert isinstance(again, DomainRandomizationWrapper)
        np.testing.assert_array_equal(again.reset(seed=1)[0]["front"], expected)
        again.close()


def test_mistakes_are_named() -> None:
    with pytest.raises(EnvError, match="SpieRobo"):
        DomainRandomizationWrapper(gym.make("CartPole-v1"))
    with pytest.raises(EnvError, match="already"):
        DomainRandomizationWrapper(randomized())
    with pytest.raises(ConfigError, match="textures"):
        RandomizationConfig(textures=2.0)
    with pytest.raises(ConfigError, match=r"unknown setting 'colour'.*'colors'"):
        DomainRandomizationWrapper(gym.make("SpieRobo/Push-v0"), {"colour": True})
    with pytest.raises(ConfigError, match="light"):
        RandomizationConfig(light="yes")  # type: ignore[arg-type]
