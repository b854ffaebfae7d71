"""The ground truth in ``info["geometry"]``, against the physics engine's own ray casting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import spie_robo.envs
from spie_robo.envs.scene import TabletopScene
from spie_robo.envs.scene_state import CameraPose, look_at
from spie_robo.types import Geometry


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    env = gym.make("SpieRobo/Push-v0", width=96, height=64).unwrapped
    env.reset(seed=4)
    yield env
    env.close()


def geometry(env: Any, camera: str) -> Geometry:
    found: Geometry = env._observe()[1]["geometry"][camera]
    return found


def rays(g: Geometry, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and directions (n, 3) with unit z in the camera, through pixel centres."""
    assert g.intrinsics is not None and g.extrinsics is not None
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    directions = g.extrinsics[:3, :3].T @ np.linalg.inv(g.intrinsics) @ pixels
    return -g.extrinsics[:3, :3].T @ g.extrinsics[:3, 3], directions.T


def inside(mask: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours are in the mask too: no silhouette edge is near."""
    core = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            core &= np.roll(core, shift, axis)
    core[[0, -1]] = False
    core[:, [0, -1]] = False
    return core


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_depth_is_metres_along_the_axis(env: Any, camera: str) -> None:
    g = geometry(env, camera)
    assert g.depth is not None and g.segmentation is not None
    bodies = [body for body, name in g.names.items() if name in ("table", "cube")]
    rows, columns = np.nonzero(inside(np.isin(g.segmentation, bodies[:1] + bodies[-1:])))
    origin, directions = rays(g, rows, columns)
    far = origin + 3 * directions
    hits = env.scene.client.rayTestBatch(np.tile(origin, (len(far), 1)).tolist(), far.tolist())
    expected = 3 * np.array([hit[2] for hit in hits])
    same = np.array([hit[0] for hit in hits]) == g.segmentation[rows, columns]
    assert same.mean() > 0.98 and same.sum() > 300
    error = np.abs(g.depth[rows, columns] - expected)[same]
    # The cube's collision shape has a margin of a millimetre or so.
    assert np.median(error) < 2e-4 and np.quantile(error, 0.99) < 3e-3


def test_half_a_pixel_would_be_noticed() -> None:
    """On a tilted plane half a row is centimetres: sampling is at pixel centres, not corners."""
    from spie_robo.envs.cameras import render

    scene = TabletopScene(panda=False)
    eye, target = np.array([1.2, 0.1, 0.5]), np.array([0.3, 0.0, 0.0])
    camera = CameraPose("c", look_at(eye, target, np.array([0, 0, 1.0])), 40.0, 48, 64)
    g = render(scene.client, camera, scene.names)[1]
    assert g.depth is not None and g.segmentation is not None
    table = scene.bodies("table")[0]
    rows, columns = np.nonzero(inside(g.segmentation == table))
    origin, directions = rays(g, rows, columns)
    expected = -origin[2] / directions[:, 2]
    error = np.abs(g.depth[rows, columns] - expected)
    assert error.max() < 2e-4
    shifted = rays(g, rows + 0.5, columns + 0.5)[1]
    assert np.abs(-origin[2] / shifted[:, 2] - expected).max() > 20 * error.max()
    scene.close()


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_known_points_project_onto_their_objects(env: Any, camera: str) -> None:
    g = geometry(env, camera)
    assert g.intrinsics is not None and g.extrinsics is not None and g.segmentation is not None
    points = {"cube": np.add(env.cube, [0, 0, 0.025]), "goal": np.add(env.goal, [0, 0, 0.002])}
    for name, point in points.items():
        u, v, w = g.intrinsics @ (g.extrinsics @ [*point, 1.0])[:3]
        assert w > 0
        row, column = int(v / w), int(u / w)
        assert 0 <= row < 64 and 0 <= column < 96, "choose a seed whose objects are in view"
        assert g.names[int(g.segmentation[row, column])] == name


def test_every_id_has_a_name(env: Any) -> None:
    for camera in ("front", "wrist"):
        g = geometry(env, camera)
        assert g.segmentation is not None and g.segmentation.dtype == np.int32
        assert set(np.unique(g.segmentation)) - {-1} <= set(g.names)
    assert set(g.names.values()) == {"floor", "wall", "table", "panda", "goal", "cube"}


def test_extrinsics_are_rigid_and_the_wrist_camera_moves(env: Any) -> None:
    before = {name: geometry(env, name).extrinsics for name in ("front", "wrist")}
    for matrix in before.values():
        assert matrix is not None
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
    start = env.robot.grasp_position
    for _ in range(3):
        env.step(np.array([0, 1, 0.5, -1], np.float32))
    moved = env.robot.grasp_position - start
    after = geometry(env, "wrist").extrinsics
    assert after is not None and before["wrist"] is not None
    eyes = [-m[:3, :3].T @ m[:3, 3] for m in (before["wrist"], after)]
    np.testing.assert_allclose(eyes[1] - eyes[0], moved, atol=0.01)
    assert np.linalg.norm(moved) > 0.05
    np.testing.assert_array_equal(geometry(env, "front").extrinsics, before["front"])


def test_intrinsics_match_the_field_of_view() -> None:
    camera = CameraPose("c", np.eye(4), 90.0, 48, 64)
    np.testing.assert_allclose(camera.intrinsics, [[24, 0, 32], [0, 24, 24], [0, 0, 1]])


def test_ids_of_the_package() -> None:
    assert all(env_id in gym.registry for env_id in spie_robo.envs.ENV_IDS)
