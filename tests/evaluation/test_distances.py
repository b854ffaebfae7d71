from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from spie_robo.errors import FrameError
from spie_robo.evaluation.distances import perceptual_distance, psnr
from spie_robo.types import RGB


@pytest.fixture
def picture() -> RGB:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (64, 64), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_psnr_of_a_known_error() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    assert psnr(image, image + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(image, image) == math.inf


def test_perceptual_distance_is_zero_for_equal_pictures_and_symmetric(picture: RGB) -> None:
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8)
    assert perceptual_distance([picture], [picture])[0] == 0
    forth, back = perceptual_distance([picture, blurred], [blurred, picture])
    assert forth == pytest.approx(back, rel=1e-4)
    assert forth > 0.01


def test_perceptual_distance_grows_with_blur(picture: RGB) -> None:
    blurs = [np.asarray(cv2.GaussianBlur(picture, (0, 0), s), np.uint8) for s in (1, 2, 4)]
    distances = perceptual_distance(blurs, [picture] * 3)
    assert distances[0] < distances[1] < distances[2]


def test_perceptual_distance_refuses_pictures_of_two_sizes(picture: RGB) -> None:
    with pytest.raises(FrameError, match="shape"):
        perceptual_distance([picture], [picture[:32]])
