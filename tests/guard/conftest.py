"""A tabletop in flat colours, with its geometry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.distortions import LabelledImage
from spie_robo.types import Frame, Geometry

PALETTE = np.array(
    [[40, 40, 40], [150, 110, 60], [230, 230, 230], [210, 30, 30], [30, 200, 30]], np.uint8
)
DEPTHS = np.array([2.0, 1.0, 0.7, 0.9, 1.0], np.float32)


def _scene(size: int = 128, goal: bool = True) -> LabelledImage:
    classes = np.zeros((size, size), np.uint8)
    unit = size // 128
    classes[40 * unit :, :] = GeometryClass.TABLE
    classes[0 : 60 * unit, 50 * unit : 70 * unit] = GeometryClass.ROBOT
    classes[80 * unit : 96 * unit, 30 * unit : 46 * unit] = GeometryClass.OBJECT
    classes[90 * unit : 102 * unit, 88 * unit : 100 * unit] = GeometryClass.OBJECT
    if goal:
        classes[64 * unit : 74 * unit, 90 * unit : 110 * unit] = GeometryClass.GOAL
    return LabelledImage(PALETTE[classes], DEPTHS[classes], classes)


def _frame(image: LabelledImage) -> Frame:
    names = {0: "wall", 1: "table", 2: "panda", 3: "cube", 4: "goal"}
    geometry = Geometry(image.depth, image.classes.astype(np.int32), names)
    return Frame(image.rgb, "front", geometry)


@pytest.fixture
def scene() -> LabelledImage:
    """A wall, a table, a robot, two objects and a goal, 128x128."""
    return _scene()


@pytest.fixture
def make_scene() -> Callable[..., LabelledImage]:
    return _scene


@pytest.fixture
def frame_of() -> Callable[[LabelledImage], Frame]:
    return _frame


@pytest.fixture
def cube(scene: LabelledImage) -> NDArray[np.bool_]:
    """The mask of the left object, 16x16 pixels."""
    mask = np.zeros((128, 128), np.bool_)
    mask[80:96, 30:46] = True
    return mask
