from __future__ import annotations

import threading

import gymnasium as gym
import numpy as np
import pytest

from spie_robo.errors import EnvError, FrameError
from spie_robo.types import Geometry
from spie_robo.wrappers import GeometryInfo, GeometryKeys, RealismWrapper


def depth_of(env, observation, info):
    steps = env.unwrapped.steps
    return {"camera": Geometry(depth=np.full((24, 24), 2.0 + steps, np.float32))}


def judged(env, toys, **kwargs):
    """The frames that the guard gets in one reset and one step."""
    guard = toys.FakeGuard()
    env = RealismWrapper(env, toys.NegativeEditor(), guard=guard, **kwargs)
    env.reset(seed=0)
    env.step(0)
    return guard.frames


def test_from_the_info(toys):
    frames = judged(toys.DictImageEnv(), toys)
    assert [f.camera for f in frames] == ["front", "sensors_wrist"] * 2
    assert [f.geometry.depth.max() for f in frames[::2]] == [1.0, 2.0]
    assert frames[1].geometry is None


def test_from_observation_keys(toys):
    keys = GeometryKeys("mask", "mask", depth_unit=0.5, names={1: "cube"})
    frames = judged(toys.DictImageEnv(), toys, cameras=["front"], geometry=keys)
    geometry = frames[1].geometry
    assert geometry.depth.dtype == np.float32 and geometry.segmentation.dtype == np.int32
    assert geometry.depth.shape == (24, 24) and geometry.depth.max() == 0.5
    assert geometry.segmentation.max() == 1 and geometry.names == {1: "cube"}


def test_observation_keys_stand_for_the_camera(toys):
    observation = {"sensors": {"front": {"depth": np.ones((24, 24, 1), np.int16)}}}
    geometry = GeometryKeys("sensors/{camera}/depth", depth_unit=0.001).read(observation, "front")
    np.testing.assert_allclose(geometry.depth, 0.001)
    with pytest.raises(EnvError, match=r"'sensors/wrist/depth'.*\['front'\]"):
        GeometryKeys("sensors/{camera}/depth").read(observation, "wrist")


def test_observation_keys_survive_the_spec(toys):
    env = RealismWrapper(
        gym.make("test/DictImage-v0"),
        "by-name",
        guard=None,
        cameras=["front"],
        geometry=GeometryKeys("mask", names={1: "cube"}),
    )
    spec = type(env.spec).from_json(env.spec.to_json())
    assert gym.make(spec).reset(seed=0)[0] in env.observation_space


def test_from_a_function(toys):
    frames = judged(toys.PlainImageEnv(), toys, geometry=depth_of)
    assert [f.geometry.depth.max() for f in frames] == [2.0, 3.0]


def test_geometry_info_makes_any_env_give_it(toys):
    env = gym.make("test/PlainImage-v0")
    wrapped = GeometryInfo(env, depth_of)
    assert [f.geometry.depth.max() for f in judged(wrapped, toys)] == [2.0, 3.0]
    toys.check_env(wrapped, skip_close_check=True)
    assert "geometry" in gym.make(wrapped.spec).reset(seed=0)[1]


@pytest.mark.parametrize("found", [{"camera": np.ones((24, 24))}, np.ones((24, 24)), None])
def test_anything_else_is_named(toys, found):
    with pytest.raises(EnvError, match=r"expected a dictionary \{camera: spie_robo.types.Geometry"):
        judged(toys.PlainImageEnv(), toys, geometry=lambda *_: found)


def test_a_geometry_of_another_size(toys):
    small = {"camera": Geometry(depth=np.ones((8, 8), np.float32))}
    with pytest.raises(FrameError, match=r"expected shape \(24, 24\)"):
        judged(toys.PlainImageEnv(), toys, geometry=lambda *_: small)


def test_a_geometry_of_no_edited_camera_is_warned_of_once(toys):
    other = {"top": Geometry(depth=np.ones((24, 24), np.float32))}
    with pytest.warns(UserWarning, match=r"\['top'\].*\['camera'\]") as caught:
        judged(toys.PlainImageEnv(), toys, geometry=lambda *_: other)
    assert len(caught) == 1


def test_a_function_of_an_object_is_not_copied_with_its_simulator(toys):
    class Simulator:
        def __init__(self):
            self.lock = threading.Lock()  # which cannot be copied

        def geometry(self, env, observation, info):
            return {"camera": Geometry(depth=np.ones((toys.size, toys.size), np.float32))}

    env = GeometryInfo(toys.PlainImageEnv(), Simulator().geometry)
    assert env.reset(seed=0)[1]["geometry"]["camera"].depth.all()
    made = GeometryInfo(gym.make("test/PlainImage-v0"), Simulator().geometry)
    with pytest.raises(EnvError, match="cannot rebuild its geometry"):
        gym.make(made.spec)
