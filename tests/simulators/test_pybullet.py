"""PyBullet and panda-gym: known points, the table's plane, ids that are used again."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import AddRenderObservation

from spie_robo.errors import EnvError
from spie_robo.simulators import BulletCamera, PyBullet, find_simulator
from spie_robo.simulators.agreement import best_orientation
from spie_robo.simulators.pinhole import project_points, world_points
from spie_robo.simulators.views import ObservedCamera, ViewRequest

HEIGHT, WIDTH = 96, 128


def ids(geometry, name):
    (number,) = [i for i, known in geometry.names.items() if known == name]
    return geometry.segmentation == number


@pytest.fixture
def panda():
    pytest.importorskip("panda_gym")
    size = {"render_width": WIDTH, "render_height": HEIGHT}
    env = gym.make("PandaPickAndPlace-v3", render_mode="rgb_array", **size)
    env = AddRenderObservation(env, render_only=True)
    yield env
    env.close()


def test_panda_gym_is_found_and_its_objects_are_where_they_project(panda):
    observation, _ = panda.reset(seed=0)
    simulator = find_simulator(panda)
    assert simulator.name == "PyBullet"
    camera = ObservedCamera("camera", (), HEIGHT, WIDTH)
    view = simulator.views(ViewRequest(panda, observation, {}, (camera,)))["camera"]
    geometry = view.geometry
    assert {"background", "panda", "plane", "table", "object", "target"} <= set(
        geometry.names.values()
    )
    sim = panda.unwrapped.sim
    column, row, _ = project_points([sim.get_base_position("object")], geometry)[0]
    assert ids(geometry, "object")[int(row), int(column)]
    # The table's top is at height 0, and the plane under it at -0.4.
    heights = world_points(geometry)[..., 2]
    assert abs(np.percentile(heights[ids(geometry, "table")], 95)) < 2e-3
    assert np.abs(heights[ids(geometry, "plane")] + 0.4).max() < 5e-3
    assert best_orientation(observation, geometry) == view.orientation
    np.testing.assert_array_equal(np.isnan(geometry.depth), ids(geometry, "background"))


@pytest.fixture
def client():
    pybullet = pytest.importorskip("pybullet")
    from pybullet_utils.bullet_client import BulletClient

    made = BulletClient(pybullet.DIRECT)
    yield made
    made.disconnect()


def box(client, position, size=0.1):
    shape = client.createVisualShape(client.GEOM_BOX, halfExtents=[size] * 3)
    return client.createMultiBody(baseVisualShapeIndex=shape, basePosition=position)


def camera_of(client):
    view = client.computeViewMatrix([0, 0, 2], [0, 0, 0], [0, 1, 0])
    projection = client.computeProjectionMatrixFOV(40, WIDTH / HEIGHT, 0.1, 10)
    return BulletCamera(tuple(view), tuple(projection))


def look(client, names=None):
    camera = camera_of(client)
    simulator = PyBullet(client, lambda env, name: camera, names=names)
    request = ViewRequest(None, None, {}, (ObservedCamera("top", (), HEIGHT, WIDTH),))
    return simulator.views(request)["top"].geometry


def test_tiny_renderers_half_pixel_is_in_the_intrinsics(client):
    body = box(client, [0.2, -0.1, 0.0])
    geometry = look(client, {1: "box"})
    rows, columns = np.nonzero(geometry.segmentation == body)
    corners = [[0.2 + x, -0.1 + y, 0.1] for x in (-0.1, 0.1) for y in (-0.1, 0.1)]
    expected = project_points(corners, geometry)[:, :2]
    assert abs(columns.min() - expected[:, 0].min()) < 0.75
    assert abs(rows.max() + 1 - expected[:, 1].max()) < 0.75
    assert geometry.intrinsics[0, 2] == WIDTH / 2 + 0.5
    assert geometry.intrinsics[1, 2] == HEIGHT / 2 - 0.5
    np.testing.assert_allclose(geometry.depth[geometry.segmentation == body].min(), 1.9, atol=1e-3)


def test_a_name_belongs_to_the_body_that_is_there_now(client):
    pybullet_data = pytest.importorskip("pybullet_data")
    first = box(client, [0, 0, 0])
    assert set(look(client).names) == {-1, first}
    client.removeBody(first)
    assert look(client).names == {-1: "background"}
    cube = client.loadURDF(f"{pybullet_data.getDataPath()}/cube_small.urdf")
    assert look(client).names == {-1: "background", cube: "cube.urdf"}


def test_flat_tuples_of_a_build_without_numpy_are_read_alike(client):
    body = box(client, [0, 0, 0])
    expected = look(client)

    class Flat:
        def __getattr__(self, name):
            return getattr(client, name)

        def getCameraImage(self, *args, **kwargs):  # noqa: N802
            found = client.getCameraImage(*args, **kwargs)
            return (*found[:2], *(tuple(np.ravel(plane).tolist()) for plane in found[2:]))

    flat = look(Flat())
    assert (flat.segmentation == body).any()
    np.testing.assert_array_equal(flat.segmentation, expected.segmentation)
    np.testing.assert_allclose(flat.depth, expected.depth, rtol=1e-6)


def test_an_env_of_another_kind_is_refused_with_the_way_out():
    request = ViewRequest(gym.make("CartPole-v1"), None, {}, ())
    with pytest.raises(EnvError, match=r"geometry=PyBullet\(client"):
        PyBullet().views(request)
    with pytest.raises(EnvError, match="client and camera, or neither"):
        PyBullet(client=object())
