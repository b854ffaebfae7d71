"""The wrapper on envs that other people wrote."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import AddRenderObservation

from spie_robo.types import Geometry
from spie_robo.wrappers import GeometryInfo, RealismWrapper, VectorRealismWrapper


def assert_realistic(env, steps=3):
    """Every observation is in the space, differs from the raw one, and its camera only."""
    for call in [lambda: env.reset(seed=1)] + [lambda: env.step(env.action_space.sample())] * steps:
        observation, *_, info = call()
        assert observation in env.observation_space
        for camera, raw in info["raw"].items():
            image = observation[camera] if isinstance(observation, dict) else observation
            assert image.shape == raw.shape and (image != raw).all()
            assert raw.std() > 0


class SeedEveryReset(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """panda-gym draws an unseeded reset's goal from fresh entropy, which check_env refuses."""

    def __init__(self, env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def reset(self, *, seed=None, options=None):
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        return self.env.reset(seed=seed, options=options)


@pytest.fixture
def panda_reach():
    pytest.importorskip("panda_gym")
    size = {"render_width": 48, "render_height": 32}
    env = gym.make("PandaReach-v3", render_mode="rgb_array", **size)
    yield AddRenderObservation(SeedEveryReset(env), render_only=False)
    env.close()


def test_panda_gym(toys, panda_reach):
    env = RealismWrapper(panda_reach, toys.NegativeEditor(), guard=None)
    assert_realistic(env)
    _, info = env.reset(seed=1)
    assert list(info["raw"]) == ["pixels"] and info["raw"]["pixels"].shape == (32, 48, 3)


@pytest.mark.slow
def test_panda_gym_passes_check_env_and_rebuilds(toys, panda_reach):
    env = RealismWrapper(panda_reach, "by-name", guard=None)
    # The render check makes the env in "human" mode, which AddRenderObservation refuses.
    toys.check_env(env, skip_render_check=True)
    rebuilt = gym.make(env.spec)
    try:
        one, other = env.reset(seed=3)[0], rebuilt.reset(seed=3)[0]
        np.testing.assert_array_equal(one["pixels"], other["pixels"])
    finally:
        rebuilt.close()


@pytest.fixture(scope="module")
def mujoco_gl():
    """The first of MuJoCo's headless GL backends that renders here."""
    pytest.importorskip("mujoco")
    program = (
        "import gymnasium as gym; env = gym.make('Reacher-v5', render_mode='rgb_array');"
        "env.reset(); raise SystemExit(0 if env.render().std() > 0 else 1)"
    )
    for backend in (os.environ.get("MUJOCO_GL"), "egl", "osmesa"):
        if backend is None:
            continue
        environment = {**os.environ, "MUJOCO_GL": backend}
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
        if run.returncode == 0:
            return backend
    return pytest.skip("MuJoCo cannot render here: neither EGL nor OSMesa is installed")


@pytest.fixture
def make_reacher(mujoco_gl, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", mujoco_gl)
    # A renderer that is collected deletes its numbers of textures and buffers in whichever GL
    # context is current: those of a test before must be gone before this one draws.
    gc.collect()
    made = []

    def make():
        env = gym.make("Reacher-v5", render_mode="rgb_array", width=48, height=32)
        made.append(env)
        return AddRenderObservation(env, render_only=True)

    yield make
    for env in made:
        env.close()


def mujoco_depth(env, observation, info):
    """Depth in metres, from MuJoCo's z-buffer."""
    renderer = env.unwrapped.mujoco_renderer
    buffer = renderer.render("depth_array").astype(np.float64)
    model = env.unwrapped.model
    near, far = (limit * model.stat.extent for limit in (model.vis.map.znear, model.vis.map.zfar))
    return {"camera": Geometry(depth=(near / (1 - buffer * (1 - near / far))).astype(np.float32))}


@pytest.mark.slow
def test_mujoco(toys, make_reacher):
    guard = toys.FakeGuard()
    env = RealismWrapper(make_reacher(), toys.NegativeEditor(), guard=guard, geometry=mujoco_depth)
    assert_realistic(env)
    depths = [frame.geometry.depth for frame in guard.frames]
    assert len(depths) == 4 and all(d.shape == (32, 48) and 0 < d.min() < 20 for d in depths)


@pytest.mark.slow
def test_mujoco_passes_check_env_and_rebuilds(toys, make_reacher):
    env = RealismWrapper(make_reacher(), "by-name", guard=None)
    toys.check_env(env, skip_render_check=True)
    rebuilt = gym.make(env.spec)
    # MuJoCo itself draws a few pixels otherwise in a second instance: compare the looks.
    for made in (env, rebuilt):
        observation, info = made.reset(seed=3)
        edit = info["realism"]["camera"]
        expected = (255 - info["raw"]["camera"]) ^ np.uint8(edit.seed % 13)
        np.testing.assert_array_equal(observation, expected)
    assert env.reset(seed=3)[1]["realism"]["camera"].seed == edit.seed
    rebuilt.close()


@pytest.fixture
def sent_by_value():
    """Other processes cannot import this file: pickle what it defines whole."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.slow
@pytest.mark.usefixtures("sent_by_value")
def test_mujoco_in_other_processes_with_its_own_depth(toys, make_reacher):
    guard = toys.FakeGuard()
    envs = AsyncVectorEnv([lambda: GeometryInfo(make_reacher(), mujoco_depth)] * 2, context="spawn")
    try:
        envs = VectorRealismWrapper(envs, toys.NegativeEditor(), guard=guard)
        observations, infos = envs.reset(seed=0)
        assert (observations != infos["raw"]["camera"]).all()
        assert [frame.geometry.depth.shape for frame in guard.frames] == [(32, 48)] * 2
    finally:
        envs.close()
