from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.guard import deviations, distortions
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.distortions import LabelledImage

Mask = NDArray[np.bool_]


def test_normalised_maps_have_median_zero_and_deviation_one() -> None:
    values = np.random.default_rng(0).gamma(2, 3, (40, 50)).astype(np.float32)
    normalised = deviations.normalise(values)
    assert np.median(normalised) == pytest.approx(0, abs=1e-5)
    assert np.abs(normalised).mean() == pytest.approx(1, abs=1e-5)


def test_depth_error_ignores_scale_and_offset_and_unknown_pixels() -> None:
    truth = np.random.default_rng(0).standard_normal((20, 20)).astype(np.float32)
    assert deviations.depth_error(3 * truth + 7, truth) == pytest.approx(0, abs=1e-5)
    broken = truth.copy()
    truth = truth.copy()
    truth[:5] = np.nan
    broken[:5] += 100
    assert deviations.depth_error(broken, truth) == pytest.approx(0, abs=1e-5)
    assert math.isnan(deviations.depth_error(broken, np.full_like(truth, np.nan)))


def test_depth_error_excuses_what_the_raw_frame_reads_too() -> None:
    generator = np.random.default_rng(0)
    truth, wrong = (generator.standard_normal((20, 20)).astype(np.float32) for _ in range(2))
    assert deviations.depth_error(wrong, truth) > 0.5
    assert deviations.depth_error(wrong, truth, baseline=wrong) == pytest.approx(0, abs=1e-6)


def test_excuse_keeps_only_new_mistakes() -> None:
    truth = np.array([[1, 1, 3, 3]], np.uint8)
    baseline = np.array([[1, 0, 3, 1]], np.uint8)
    estimate = np.array([[1, 0, 1, 1]], np.uint8)
    assert deviations.excuse(estimate, truth, baseline).tolist() == [[1, 1, 1, 3]]


def test_a_sliver_gets_no_number() -> None:
    truth = np.zeros((32, 32), np.uint8)
    truth[2:10, 2:10] = truth[20, 20] = GeometryClass.OBJECT
    labels = deviations.silhouettes(truth, GeometryClass.OBJECT, minimum_area=16)
    assert labels[5, 5] == 1 and labels[20, 20] == -1 and labels[0, 0] == 0


def test_mask_iou_of_a_known_shift(scene: LabelledImage) -> None:
    moved = scene.classes.copy()
    moved[80:96, 30:46] = GeometryClass.TABLE
    moved[80:96, 34:50] = GeometryClass.OBJECT
    assert deviations.mask_iou(scene.classes, scene.classes)[0] == 1
    overlap, place = deviations.mask_iou(moved, scene.classes)
    assert overlap == pytest.approx(12 / 20) and place == (37, 87)


def test_removal_and_insertion_show_in_mask_iou(scene: LabelledImage) -> None:
    removed = scene.classes.copy()
    removed[80:96, 30:46] = GeometryClass.TABLE
    assert deviations.mask_iou(removed, scene.classes) == (0, (37, 87))
    inserted = scene.classes.copy()
    inserted[110:126, 5:21] = GeometryClass.OBJECT
    assert deviations.mask_iou(inserted, scene.classes)[0] == pytest.approx(0.5)
    empty = np.full_like(scene.classes, GeometryClass.TABLE)
    assert deviations.mask_iou(inserted, empty)[0] == 0


def test_only_what_is_away_from_true_objects_is_inserted(scene: LabelledImage) -> None:
    grown, inserted = scene.classes.copy(), scene.classes.copy()
    grown[78:98, 28:48] = GeometryClass.OBJECT
    inserted[110:120, 5:17] = GeometryClass.OBJECT
    assert deviations.inserted_px(grown, scene.classes) == (0, None)
    assert deviations.inserted_px(inserted, scene.classes) == (120, (10, 114))


def test_mask_iou_of_a_frame_with_nothing_in_it_is_not_a_number() -> None:
    empty = np.zeros((32, 32), np.uint8)
    overlap, place = deviations.mask_iou(empty, empty)
    assert math.isnan(overlap) and place is None


def test_boundary_f_falls_with_distance(scene: LabelledImage, cube: Mask) -> None:
    moved = [np.roll(cube, pixels, axis=1) for pixels in (0, 1, 3, 6)]
    scores = [deviations.boundary_f_of(mask, cube, 1.0) for mask in moved]
    assert scores[0] == scores[1] == 1
    assert scores[1] > scores[2] > scores[3]
    assert deviations.boundary_f_of(np.zeros_like(cube), cube, 1.0) == 0


def test_chroma_drift_sees_hue_and_not_light(scene: LabelledImage, cube: Mask) -> None:
    gray = np.full((128, 128, 3), 100, np.uint8)
    assert deviations.chroma_drift(gray, gray + np.uint8(60), cube) < 0.5
    tinted = gray.copy()
    tinted[cube] = (160, 60, 60)
    assert deviations.chroma_drift(gray, tinted, cube) > 30
    assert math.isnan(deviations.chroma_drift(gray, tinted, np.zeros_like(cube)))


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
