"""Tests of new structure, on surfaces and anywhere."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.outlines import scene_of
from spie_robo.guard.stack import images_on, stack_scenes
from spie_robo.guard.surfaces import Structure, gradients, new_structure
from spie_robo.types import RGB, Frame

FrameOf = Callable[[LabelledImage], Frame]


def _found(frame: Frame, edit: RGB) -> Structure:
    stack = stack_scenes([scene_of(frame)], "cpu")
    return new_structure(stack, images_on([edit], "cpu"))


def test_something_put_on_a_surface_is_found_where_it_is(
    scene: LabelledImage, frame_of: FrameOf
) -> None:
    edit = scene.rgb.copy()
    edit[108:118, 10:20] = (60, 60, 200)
    found = _found(frame_of(scene), edit)
    for value, place in ((found.inserted, found.inserted_at), (found.added, found.added_at)):
        assert float(value) > 8
        assert np.abs(place[0].numpy() - (14.5, 112.5)).max() < 9


def test_something_in_the_surfaces_own_colour_is_found_by_its_shading(
    scene: LabelledImage, frame_of: FrameOf
) -> None:
    edit = scene.rgb.copy()
    edit[108:113, 10:20] = (165, 121, 66)
    edit[113:118, 10:20] = (128, 94, 51)
    assert float(_found(frame_of(scene), edit).inserted) > 4


@pytest.mark.parametrize("kind", ["grain", "planks", "noise"])
def test_texture_of_a_whole_surface_is_no_insertion(
    scene: LabelledImage, frame_of: FrameOf, kind: str
) -> None:
    rows, columns = np.mgrid[:128, :128]
    texture = {
        "grain": 12 * np.sin(columns * 0.9 + 0.1 * rows),
        "planks": -30.0 * ((columns + rows // 3) % 14 == 0),
        "noise": np.random.default_rng(0).normal(0, 8, (128, 128)),
    }[kind]
    edit = np.clip(scene.rgb + (texture * (scene.classes == 1))[..., None], 0, 255)
    found = _found(frame_of(scene), edit.astype(np.uint8))
    assert float(found.inserted) < 2.5 and float(found.added) < 5


def test_an_unchanged_picture_has_no_new_structure(scene: LabelledImage, frame_of: FrameOf) -> None:
    found = _found(frame_of(scene), scene.rgb)
    assert float(found.inserted) == 0 and float(found.added) < 1e-3


def test_structure_of_the_raw_frame_is_not_new() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    assert float(_found(Frame(raw), raw).added) < 1


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_slope_is_measured_in_reference_pixels(pixels: int) -> None:
    ramp = torch.arange(64.0).repeat(1, 1, 64, 1)
    middle = gradients(ramp, pixels)[0, 20:-20, 20:-20]
    assert torch.allclose(middle, torch.full_like(middle, float(pixels)), atol=1e-4)


def test_smoothing_is_that_of_a_gaussian() -> None:
    """Passes of (1, 2, 1) / 4 against OpenCV's blur of the same variance."""
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32) * 255
    expected = cv2.GaussianBlur(image, (0, 0), 1.0)
    slopes = [cv2.Sobel(expected, cv2.CV_32F, x, 1 - x, ksize=1) / 2 for x in (1, 0)]
    found = gradients(torch.from_numpy(image)[None, None], 1.0)[0].numpy()
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(found - np.hypot(*slopes))[inner].mean() < 0.1 * found[inner].mean()
