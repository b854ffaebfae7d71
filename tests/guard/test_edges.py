from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.guard import distortions, edges
from spie_robo.guard.distortions import LabelledImage

Mask = NDArray[np.bool_]


def restyled(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Other colours, another light, blur and noise, nothing moved."""
    noise = np.random.default_rng(0).normal(0, 3, rgb.shape)
    light = np.linspace(0.6, 1.1, rgb.shape[1])[None, :, None]
    mixed = rgb[..., [2, 0, 1]] * light + 20
    return np.clip(cv2.GaussianBlur(mixed, (0, 0), 0.7) + noise, 0, 255).astype(np.uint8)


def test_a_restyled_scene_is_in_place(scene: LabelledImage) -> None:
    fit = edges.edge_fit(restyled(scene.rgb), scene.rgb, scene.classes)
    assert fit.displacement_px < 1
    assert fit.support > 1.05


@pytest.mark.parametrize("pixels", [3, 6])
def test_a_shift_is_measured_in_pixels(scene: LabelledImage, cube: Mask, pixels: int) -> None:
    moved = distortions.shift(scene, cube, pixels, np.random.default_rng(1))
    fit = edges.edge_fit(restyled(moved.rgb), scene.rgb, scene.classes)
    assert fit.displacement_px == pytest.approx(pixels, abs=1)
    assert fit.support < 0.9


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_another_size_is_noticed(scene: LabelledImage, cube: Mask, factor: float) -> None:
    scaled = distortions.scale(scene, cube, factor)
    fit = edges.edge_fit(restyled(scaled.rgb), scene.rgb, scene.classes)
    assert 1 < fit.displacement_px < 4
    assert fit.support < 0.9


def test_a_removed_object_has_no_support(scene: LabelledImage, cube: Mask) -> None:
    kept, removed = (
        edges.edge_fit(restyled(image.rgb), scene.rgb, scene.classes).support
        for image in (scene, distortions.remove(scene, cube))
    )
    assert removed < 1 < kept


def test_an_object_that_the_raw_frame_does_not_show_is_no_evidence(
    scene: LabelledImage, make_scene: Callable[..., LabelledImage]
) -> None:
    hidden = scene.rgb.copy()
    hidden[60:] = (150, 110, 60)  # both objects and the goal are painted over
    fit = edges.edge_fit(hidden, hidden, scene.classes)
    assert math.isnan(fit.displacement_px) and math.isnan(fit.support)


def test_an_outline_lies_between_the_last_pixel_inside_and_the_first_outside(cube: Mask) -> None:
    (contour,) = edges.contours(np.where(cube, 3, 1).astype(np.uint8))
    assert contour.centre == pytest.approx([37.5, 87.5])
    assert contour.points[:, 0].min() == pytest.approx(29.5, abs=0.1)
    assert contour.points[:, 1].max() == pytest.approx(95.5, abs=0.1)
