"""OpenGL's matrices and depth buffers in OpenCV's terms."""

from __future__ import annotations

import numpy as np
import pytest

from spie_robo.errors import FrameError
from spie_robo.simulators.pinhole import (
    depth_from_buffer,
    frustum_intrinsics,
    look_extrinsics,
    project_points,
    projection_intrinsics,
    seen,
    world_points,
)
from spie_robo.types import Geometry


def test_a_symmetric_frustum_has_its_principal_point_in_the_middle():
    matrix = frustum_intrinsics(-0.02, 0.02, -0.01, 0.01, 0.01, height=50, width=100)
    np.testing.assert_allclose(matrix, [[25, 0, 50], [0, 25, 25], [0, 0, 1]])


def test_a_frustum_that_reaches_further_right_has_its_principal_point_further_left():
    matrix = frustum_intrinsics(-0.01, 0.03, -0.01, 0.01, 0.01, height=50, width=100)
    assert matrix[0, 2] == pytest.approx(25)


def test_a_camera_that_looks_north_has_east_on_the_right_and_up_at_the_top():
    extrinsics = look_extrinsics([0, 0, 1], forward=[0, 1, 0], up=[0, 0, 1])
    geometry = Geometry(
        intrinsics=np.array([[10.0, 0, 5], [0, 10.0, 5], [0, 0, 1]]), extrinsics=extrinsics
    )
    (right, middle, depth), (centre, above, _) = project_points([[1, 2, 1], [0, 2, 2]], geometry)
    assert (right, middle, depth) == pytest.approx((10, 5, 2))
    assert (centre, above) == pytest.approx((5, 0))


def test_a_depth_buffer_becomes_metres_along_the_axis_and_its_end_nothing():
    pybullet = pytest.importorskip("pybullet")
    projection = pybullet.computeProjectionMatrixFOV(60, 1.0, 0.1, 10.0)
    near, far, metres = 0.1, 10.0, 2.5
    buffer = far * (metres - near) / (metres * (far - near))
    depth = depth_from_buffer([buffer, 1.0], projection)
    assert depth[0] == pytest.approx(metres, abs=1e-4) and np.isnan(depth[1])
    focal = 32 / np.tan(np.radians(30))
    np.testing.assert_allclose(
        projection_intrinsics(projection, 64, 64),
        [[focal, 0, 32], [0, focal, 32], [0, 0, 1]],
        rtol=1e-6,
    )


def test_everything_that_simulators_mean_nothing_by_is_nan():
    depth = seen([0.0, -32.768, np.inf, -np.inf, np.nan, 20.0, 19.999, 1.5], farthest=20.0)
    np.testing.assert_array_equal(np.isnan(depth), [True] * 7 + [False])
    assert depth[-1] == np.float32(1.5)


def test_points_without_a_camera_are_refused_with_what_is_missing():
    with pytest.raises(FrameError, match="intrinsics and extrinsics"):
        project_points([[0, 0, 0]], Geometry())
    with pytest.raises(FrameError, match="expected geometry with depth"):
        world_points(Geometry(intrinsics=np.eye(3), extrinsics=np.eye(4)))
