from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.guard import distortions
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.distortions import LabelledImage

Mask = NDArray[np.bool_]


def test_a_sliver_gets_no_number() -> None:
    truth = np.zeros((32, 32), np.uint8)
    truth[2:10, 2:10] = truth[20, 20] = GeometryClass.OBJECT
    labels = distortions.silhouettes(truth, GeometryClass.OBJECT, minimum_area=16)
    assert labels[5, 5] == 1 and labels[20, 20] == -1 and labels[0, 0] == 0


def test_distortions_move_picture_and_labels_together(scene: LabelledImage, cube: Mask) -> None:
    generator = np.random.default_rng(0)
    moved = distortions.shift(scene, cube, 6, generator)
    red = np.abs(moved.rgb.astype(int) - [210, 30, 30]).max(axis=-1) <= 12
    assert (red != (moved.classes == 3)).sum() <= 40  # blended edge pixels
    assert (moved.classes == 3).sum() == pytest.approx((scene.classes == 3).sum(), abs=16)
    removed = distortions.remove(scene, cube)
    assert not (removed.classes[cube] == 3).any()
    assert np.abs(removed.rgb[cube].astype(int) - [150, 110, 60]).max() <= 12
    assert (removed.depth[cube] == 1.0).all()
    bigger = distortions.scale(scene, cube, 1.25)
    assert (bigger.classes == 3).sum() > (scene.classes == 3).sum() + 60


def test_a_warp_moves_by_at_most_what_it_says(scene: LabelledImage) -> None:
    x, y = (a.astype(np.uint8) for a in np.meshgrid(np.arange(128), np.arange(128)))
    coordinates = LabelledImage(np.dstack([x, y, x]), scene.depth, scene.classes)
    warped = distortions.warp(coordinates, 4, np.random.default_rng(0)).rgb.astype(int)
    moved = np.hypot(warped[..., 0] - x, warped[..., 1] - y)[8:-8, 8:-8]
    assert 2 < moved.max() <= 4.5
