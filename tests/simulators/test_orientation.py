"""The four turns of a picture, and of its geometry with it."""

from __future__ import annotations

import numpy as np
import pytest

from spie_robo.simulators.orientation import (
    BOTTOM_ROW_FIRST,
    MIRRORED,
    ROTATED,
    UPRIGHT,
    Orientation,
)
from spie_robo.simulators.pinhole import project_points, world_points
from spie_robo.types import Geometry

TURNS = (UPRIGHT, BOTTOM_ROW_FIRST, MIRRORED, ROTATED)


@pytest.fixture
def geometry():
    """A camera that looks along +z, with a wall of its own depth in every pixel."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 2.0, (24, 32)).astype(np.float32)
    segmentation = np.arange(24 * 32, dtype=np.int32).reshape(24, 32)
    intrinsics = np.array([[40.0, 0.0, 17.5], [0.0, 42.0, 10.25], [0.0, 0.0, 1.0]])
    extrinsics = np.eye(4)
    extrinsics[:3, 3] = [0.1, -0.2, 0.3]
    return Geometry(depth, segmentation, {}, intrinsics, extrinsics)


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_turning_twice_gives_the_same_picture_and_geometry(turn, geometry):
    image = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(turn.turn(turn.turn(image)), image)
    again = turn.turn_geometry(turn.turn_geometry(geometry))
    np.testing.assert_array_equal(again.depth, geometry.depth)
    np.testing.assert_allclose(again.intrinsics, geometry.intrinsics)
    np.testing.assert_allclose(again.extrinsics, geometry.extrinsics)


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_turned_matrices_project_each_point_onto_the_pixel_that_shows_it(turn, geometry):
    turned = turn.turn_geometry(geometry)
    points = world_points(geometry).reshape(-1, 3)
    column, row, depth = project_points(points, turned).T
    ids = turned.segmentation[np.floor(row).astype(int), np.floor(column).astype(int)]
    np.testing.assert_array_equal(ids, geometry.segmentation.ravel())
    np.testing.assert_allclose(depth, geometry.depth.ravel(), rtol=1e-5)


def test_a_rotated_camera_keeps_positive_focal_lengths_and_a_mirrored_one_cannot(geometry):
    assert (np.diag(ROTATED.turn_geometry(geometry).intrinsics) > 0).all()
    assert MIRRORED.turn_geometry(geometry).intrinsics[0, 0] < 0


def test_the_turned_array_is_contiguous_whatever_strides_it_had():
    upside_down = np.zeros((24, 32, 3), np.uint8)[::-1]
    assert upside_down.strides[0] < 0
    for turn in TURNS:
        assert turn.turn(upside_down).flags.c_contiguous


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_an_orientation_is_found_again_by_its_name(turn):
    assert Orientation.named(turn.name) == turn
