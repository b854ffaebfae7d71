from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from spie_robo.errors import FrameError
from spie_robo.evaluation.gradient import gradient_magnitude, gradient_ratio
from spie_robo.evaluation.temporal import flicker


def test_a_ramp_has_the_gradient_of_its_slope() -> None:
    ramp = np.repeat(np.arange(0, 128, 2, dtype=np.uint8)[None, :, None], 32, axis=0)
    inner = gradient_magnitude(np.repeat(ramp, 3, axis=2))
    assert inner == pytest.approx(2.0, rel=0.05)


def test_blur_lowers_the_ratio() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)
    assert gradient_ratio(image, image) == 1
    assert gradient_ratio(blurred, image) < 0.4
    assert math.isnan(gradient_ratio(image, np.zeros_like(image)))


def test_flicker_counts_only_static_pixels() -> None:
    raw = np.zeros((3, 16, 16, 3), np.uint8)
    raw[1, :, :8] = 200  # the left half moves between frames
    edits = np.full_like(raw, 100)
    edits[1, :, :8] = 255
    edits[1:, :, 8:] = 104  # the right half steps once by 4
    assert flicker(list(raw), list(edits)) == pytest.approx(2.0)


def test_flicker_of_one_frame_is_not_a_number() -> None:
    frame = np.zeros((16, 16, 3), np.uint8)
    assert math.isnan(flicker([frame], [frame]))
    with pytest.raises(FrameError, match="one edit a frame"):
        flicker([frame], [])
