"""Tests of colours that tell objects apart."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.guard.colours import chroma_drift, swapped
from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.outlines import scene_of
from spie_robo.guard.stack import images_on, stack_scenes
from spie_robo.types import Frame

FrameOf = Callable[[LabelledImage], Frame]
Mask = NDArray[np.bool_]


def _swapped(frame: Frame, edit: NDArray[np.uint8]) -> NDArray[np.float32]:
    stack = stack_scenes([scene_of(frame)], "cpu")
    return swapped(stack, images_on([edit], "cpu"))[0].numpy()


@pytest.fixture
def red_and_blue(scene: LabelledImage, frame_of: FrameOf) -> Frame:
    rgb = scene.rgb.copy()
    rgb[90:102, 88:100] = (30, 40, 210)
    return frame_of(LabelledImage(rgb, scene.depth, scene.classes))


def test_two_objects_that_exchange_colours_are_noticed(red_and_blue: Frame) -> None:
    edit = red_and_blue.rgb.copy()
    edit[80:96, 30:46], edit[90:102, 88:100] = (30, 40, 210), (210, 30, 30)
    assert np.nanmax(_swapped(red_and_blue, edit)) > 0.99


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.6, 0.6, 0.6), (1.2, 1.0, 0.7)])
def test_another_light_exchanges_nothing(red_and_blue: Frame, tint: tuple[float, ...]) -> None:
    edit = np.clip(red_and_blue.rgb * np.array(tint), 0, 255).astype(np.uint8)
    assert np.nanmax(_swapped(red_and_blue, edit)) < -0.9


def test_objects_of_one_colour_cannot_be_told_apart(
    scene: LabelledImage, frame_of: FrameOf, cube: Mask
) -> None:
    twin = LabelledImage(scene.rgb, scene.depth, np.where(scene.classes == 4, 1, scene.classes))
    assert np.isnan(_swapped(frame_of(twin), scene.rgb)).all()


def test_chroma_drift_sees_hue_and_not_light(cube: Mask) -> None:
    gray = np.full((128, 128, 3), 100, np.uint8)
    assert chroma_drift(gray, gray + np.uint8(60), cube) < 0.5
    tinted = gray.copy()
    tinted[cube] = (160, 60, 60)
    assert chroma_drift(gray, tinted, cube) > 30
    assert math.isnan(chroma_drift(gray, tinted, np.zeros_like(cube)))
