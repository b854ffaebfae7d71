"""The wrappers on the project's own envs."""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import spie_robo.envs  # noqa: F401 - registers them
from spie_robo.wrappers import RealismWrapper, VectorRealismWrapper

make_reach = functools.partial(gym.make, "SpieRobo/Reach-v0", width=32, height=32)


@pytest.mark.parametrize("name", ["Reach", "Push", "PickPlace"])
def test_both_cameras_are_edited_and_judged_against_their_own_geometry(toys, name):
    guard = toys.FakeGuard()
    env = gym.make(f"SpieRobo/{name}-v0", width=48, height=32)
    env = RealismWrapper(env, toys.NegativeEditor(), guard=guard)
    try:
        env.reset(seed=0)
        observation, *_, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert list(info["realism"]) == ["front", "wrist"]
        for camera, frame in zip(("front", "wrist"), guard.frames[2:], strict=True):
            assert (observation[camera] != info["raw"][camera]).all()
            assert frame.geometry is info["geometry"][camera]
            assert frame.geometry.depth.shape == (32, 48)
    finally:
        env.close()


@pytest.mark.slow
def test_check_env_is_clean(toys):
    env = RealismWrapper(make_reach(render_mode="rgb_array"), "by-name", guard=None)
    try:
        toys.check_env(env)
    finally:
        env.close()


@pytest.mark.slow
def test_check_env_is_clean_with_a_guard(toys):
    env = RealismWrapper(make_reach(), toys.NegativeEditor(), guard=toys.FakeGuard())
    try:
        toys.check_env(env, skip_render_check=True, skip_close_check=True)
    finally:
        env.close()


def test_the_spec_rebuilds_the_wrapper(toys):
    env = RealismWrapper(make_reach(), "by-name", guard=None, cameras=["wrist"])
    spec = type(env.spec).from_json(env.spec.to_json())
    rebuilt = gym.make(spec)
    try:
        one, other = env.reset(seed=3)[0], rebuilt.reset(seed=3)[0]
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    finally:
        env.close()
        rebuilt.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_vectors(toys, kind, mode):
    guard = toys.FakeGuard()
    make_short = functools.partial(make_reach, max_episode_steps=2)
    envs = kind([make_short, make_short], autoreset_mode=mode)
    envs = VectorRealismWrapper(envs, toys.NegativeEditor(), guard=guard)
    try:
        envs.reset(seed=0)
        for _ in range(2):
            observations, _, _, over, infos = envs.step(envs.action_space.sample() * 0)
            assert observations in envs.observation_space
            for camera in ("front", "wrist"):
                assert (observations[camera] != infos["raw"][camera]).all()
        assert over.all()
        assert all(frame.geometry is not None for frame in guard.frames)
        assert ("final_obs" in infos) == (mode is AutoresetMode.SAME_STEP)
        for i, final in enumerate(infos.get("final_obs", [])):
            raw = infos["final_info"]["raw"]["wrist"][i]
            assert (final["wrist"] != raw).all() and final in envs.single_observation_space
    finally:
        envs.close()
