"""What PyBullet answers, with NumPy and without, becomes the same arrays."""

from __future__ import annotations

import numpy as np
import pytest
from pybullet_utils.bullet_client import BulletClient

from spie_robo.envs.cameras import image_arrays, render
from spie_robo.envs.scene import TabletopScene
from spie_robo.envs.scene_state import CameraPose, look_at


def answer_of(height: int, width: int) -> tuple:
    """An answer as PyBullet built with NumPy gives it: arrays in their shapes."""
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    depth = rng.random((height, width), dtype=np.float32)
    ids = rng.integers(-1, 2**25, (height, width), dtype=np.int32)
    return width, height, rgba, depth, ids


def test_flat_tuples_give_the_same_arrays_as_arrays_do() -> None:
    width, height, rgba, depth, ids = answer_of(24, 40)
    flat = (width, height, *(tuple(array.ravel().tolist()) for array in (rgba, depth, ids)))
    for given in ((width, height, rgba, depth, ids), flat):
        colors, buffer, segmentation = image_arrays(given)
        assert colors.dtype == np.uint8 and colors.flags.c_contiguous
        assert buffer.dtype == np.float32 and segmentation.dtype == np.int32
        np.testing.assert_array_equal(colors, rgba[:, :, :3])
        np.testing.assert_array_equal(buffer, depth)
        np.testing.assert_array_equal(segmentation, ids)


def test_arrays_are_copies_that_the_next_picture_does_not_change() -> None:
    answer = answer_of(16, 16)
    results = image_arrays(answer)
    kept = [result.copy() for result in results]
    for array in answer[2:]:
        array[:] = 7
    for result, before in zip(results, kept, strict=True):
        np.testing.assert_array_equal(result, before)


class FlatClient:
    """A client whose pictures come as flat tuples, as ``pybullet-arm64`` gives them."""

    def __init__(self, client: BulletClient) -> None:
        self._client = client

    def __getattr__(self, name: str):
        return getattr(self._client, name)

    def getCameraImage(self, *arguments, **options):  # noqa: N802 - PyBullet's own name
        width, height, *images = self._client.getCameraImage(*arguments, **options)
        return width, height, *(tuple(np.ravel(image).tolist()) for image in images)


@pytest.mark.parametrize("size", [(48, 32), (33, 17)])
def test_a_picture_is_the_same_from_either_build_of_pybullet(size: tuple[int, int]) -> None:
    scene = TabletopScene()
    try:
        eye, target, up = np.array([1.2, 0, 0.7]), np.array([0.4, 0, 0.1]), np.array([0, 0, 1.0])
        camera = CameraPose("front", look_at(eye, target, up), 50.0, *size)
        rgb, geometry = render(scene.client, camera, scene.names)
        flat_rgb, flat_geometry = render(FlatClient(scene.client), camera, scene.names)
    finally:
        scene.close()
    assert rgb.std() > 0
    np.testing.assert_array_equal(rgb, flat_rgb)
    assert geometry == flat_geometry
