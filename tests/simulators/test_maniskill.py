"""ManiSkill: tensors with the shapes, types and values that release 3.0.1 was seen to give.

The release itself is run by ``benchmarks/simulators.py``, for it needs a Vulkan driver.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spie_robo.simulators import ManiSkill, find_simulator
from spie_robo.simulators.views import ObservedCamera, ViewRequest

WORLDS, HEIGHT, WIDTH = 3, 16, 24
KEY = ("sensor_data", "base_camera", "rgb")
CAMERA = ObservedCamera("sensor_data_base_camera_rgb", KEY, HEIGHT, WIDTH)


class Sensor:
    """``mani_skill.sensors.camera.Camera``, as far as it is asked."""

    def __init__(self):
        self.asked = []

    def get_obs(self, rgb, depth, position, segmentation):
        self.asked.append((rgb, depth, position, segmentation))
        return planes(offset=7)

    def get_params(self):
        return matrices()


def planes(offset=0):
    depth = torch.full((WORLDS, HEIGHT, WIDTH, 1), 1500 + offset, dtype=torch.int16)
    depth += torch.arange(WORLDS, dtype=torch.int16).reshape(-1, 1, 1, 1)
    depth[:, 0, 0], depth[:, 0, 1] = 0, -32768
    segmentation = torch.full((WORLDS, HEIGHT, WIDTH, 1), 18, dtype=torch.int16)
    segmentation[:, 0] = 0
    return {"depth": depth, "segmentation": segmentation}


def matrices():
    extrinsic = torch.tensor(
        [[0.0, 1.0, 0.0, 0.0], [0.7809, 0.0, -0.6247, 0.1406], [-0.6247, 0.0, -0.7809, 0.6559]]
    )
    intrinsic = torch.tensor([[64.0, 0.0, 12.0], [0.0, 64.0, 8.0], [0.0, 0.0, 1.0]])
    return {
        "extrinsic_cv": extrinsic.repeat(WORLDS, 1, 1),
        "intrinsic_cv": intrinsic.repeat(WORLDS, 1, 1),
    }


@pytest.fixture
def env():
    things = {18: SimpleNamespace(name="cube"), 1: SimpleNamespace(name="panda_link0")}
    base = SimpleNamespace(_sensors={"base_camera": Sensor()}, segmentation_id_map=things)
    base.unwrapped = base
    return base


def observed(**data):
    rgb = torch.zeros(WORLDS, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    return {
        "sensor_data": {"base_camera": {"rgb": rgb, **data}},
        "sensor_param": {"base_camera": matrices()},
    }


def test_millimetres_become_metres_and_both_kinds_of_nothing_nan(env):
    request = ViewRequest(env, observed(**planes()), {}, (CAMERA,), world=2)
    geometry = ManiSkill().views(request)[CAMERA.name].geometry
    assert geometry.depth.dtype == np.float32 and geometry.depth.shape == (HEIGHT, WIDTH)
    assert np.isnan(geometry.depth[0, :2]).all()
    assert geometry.depth[1, 1] == pytest.approx(1.502)
    assert geometry.names == {0: "background", 1: "panda_link0", 18: "cube"}
    assert set(np.unique(geometry.segmentation)) == {0, 18}
    assert geometry.segmentation.dtype == np.int32
    np.testing.assert_allclose(geometry.extrinsics[3], [0, 0, 0, 1])
    np.testing.assert_allclose(geometry.intrinsics[:2, 2], [12, 8])
    assert not env._sensors["base_camera"].asked


def test_without_depth_in_the_observation_the_sensor_is_read(env):
    request = ViewRequest(env, observed(), {}, (CAMERA,), world=1)
    geometry = ManiSkill().views(request)[CAMERA.name].geometry
    assert geometry.depth[1, 1] == pytest.approx(1.508)
    assert env._sensors["base_camera"].asked == [(False, True, False, True)]


def test_a_world_that_was_reset_since_is_judged_by_its_own_observation_or_by_nothing(env):
    own = ViewRequest(env, observed(**planes()), {}, (CAMERA,), live=False)
    assert ManiSkill().views(own)[CAMERA.name].geometry.depth[1, 1] == pytest.approx(1.5)
    bare = ViewRequest(env, observed(), {}, (CAMERA,), live=False)
    assert ManiSkill().views(bare) == {}


def test_each_tensor_crosses_to_the_cpu_once_for_all_worlds(env, monkeypatch):
    crossed = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: crossed.append(1) or original(self))
    observation, simulator = observed(**planes()), ManiSkill()
    for world in range(WORLDS):
        simulator.views(ViewRequest(env, observation, {}, (CAMERA,), world))
    assert len(crossed) == 4  # depth, segmentation and two matrices
    simulator.views(ViewRequest(env, observed(**planes()), {}, (CAMERA,)))
    assert len(crossed) == 8


def test_numpy_without_a_batch_as_the_cpu_wrapper_gives_is_read_alike(env):
    data = {key: value[1].numpy() for key, value in planes().items()}
    observation = {"sensor_data": {"base_camera": data}, "sensor_param": {}}
    geometry = ManiSkill().views(ViewRequest(env, observation, {}, (CAMERA,)))[CAMERA.name].geometry
    assert geometry.depth[1, 1] == pytest.approx(1.501)


def test_a_maniskill_env_is_found_by_its_class():
    kind = type("PickCubeEnv", (), {"__module__": "mani_skill.envs.tasks.tabletop.pick_cube"})
    assert find_simulator(kind()).name == "ManiSkill"
