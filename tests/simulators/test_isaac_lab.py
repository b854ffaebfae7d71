"""Isaac Lab: stand-ins of the shapes that its documentation names; it is not run here."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spie_robo.simulators import IsaacLab, find_simulator
from spie_robo.simulators.pinhole import project_points
from spie_robo.simulators.views import ObservedCamera, ViewRequest

WORLDS, HEIGHT, WIDTH = 2, 16, 24
CAMERA = ObservedCamera("policy", ("policy",), HEIGHT, WIDTH)


class Wrapped:
    """``isaaclab.utils.warp.ProxyArray`` of release 3."""

    def __init__(self, tensor):
        self.torch = tensor


def sensor(release, pose=None, segmentation=None):
    pose = Rotation.from_euler("x", -120, degrees=True) if pose is None else pose
    quaternion = torch.tensor(pose.as_quat(scalar_first=release < 3)).repeat(WORLDS, 1)
    depth = torch.full((WORLDS, HEIGHT, WIDTH, 1), 2.0)
    depth[1] += 0.5
    depth[:, 0, 0], depth[:, 0, 1] = float("inf"), 1000.0
    output = {
        "rgb": torch.zeros(WORLDS, HEIGHT, WIDTH, 3, dtype=torch.uint8),
        "distance_to_camera": depth + 9,
        "distance_to_image_plane": depth,
    }
    if segmentation is not None:
        output["instance_segmentation_fast"] = segmentation
    labels = {"0": "BACKGROUND", "1": "UNLABELLED", "2": "/World/envs/env_0/Cube"}
    wrap = Wrapped if release >= 3 else lambda tensor: tensor
    matrix = torch.tensor([[20.0, 0, 12.0], [0, 20.0, 8.0], [0, 0, 1.0]]).repeat(WORLDS, 1, 1)
    data = SimpleNamespace(
        output={key: wrap(value) for key, value in output.items()},
        intrinsic_matrices=wrap(matrix),
        pos_w=wrap(torch.tensor([[0.0, -1.0, 0.5], [5.0, -1.0, 0.5]])),
        quat_w_ros=wrap(quaternion),
        info={"instance_segmentation_fast": {"idToLabels": labels}},
    )
    cfg = SimpleNamespace(spawn=SimpleNamespace(clipping_range=(0.1, 1000.0)))
    return SimpleNamespace(data=data, cfg=cfg)


def env_of(camera):
    contact = SimpleNamespace(data=SimpleNamespace(net_forces_w=None))
    scene = SimpleNamespace(sensors={"contact": contact, "tiled_camera": camera})
    base = SimpleNamespace(scene=scene)
    base.unwrapped = base
    return base


def look(env, world=0, live=True):
    return IsaacLab().views(ViewRequest(env, object(), {}, (CAMERA,), world, live))


@pytest.mark.parametrize("release", [2, 3])
def test_depth_along_the_axis_and_the_pose_of_each_world_are_read(release):
    ids = torch.full((WORLDS, HEIGHT, WIDTH, 1), 2, dtype=torch.int32)
    env = env_of(sensor(release, segmentation=ids))
    geometry = look(env, world=1)["policy"].geometry
    assert geometry.depth[1, 1] == pytest.approx(2.5)
    assert np.isnan(geometry.depth[0, :2]).all()
    assert geometry.names == {0: "background", 1: "unlabelled", 2: "cube"}
    assert (geometry.segmentation == 2).all() and geometry.segmentation.dtype == np.int32
    # The camera stands south of the point and looks north and down at it.
    direction = Rotation.from_euler("x", -120, degrees=True).apply([0, 0, 1.0])
    point = np.array([5.0, -1.0, 0.5]) + 2.0 * direction
    assert direction[1] > 0 and direction[2] < 0
    np.testing.assert_allclose(project_points([point], geometry)[0], [12, 8, 2], atol=1e-5)


def test_ids_that_were_painted_in_colours_are_not_taken_for_ids():
    painted = torch.zeros(WORLDS, HEIGHT, WIDTH, 4, dtype=torch.uint8)
    geometry = look(env_of(sensor(3, segmentation=painted)))["policy"].geometry
    assert geometry.segmentation is None and geometry.depth is not None


def test_a_world_that_was_reset_since_has_no_geometry():
    assert look(env_of(sensor(3)), live=False) == {}


def test_an_isaac_lab_env_is_found_by_its_class():
    kind = type("ManagerBasedRLEnv", (), {"__module__": "isaaclab.envs.manager_based_rl_env"})
    assert find_simulator(kind()).name == "Isaac Lab"
