from __future__ import annotations

import numpy as np
import pytest

from spie_robo.feedback.relight import relit


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(20, 120, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def region():
    mask = np.zeros((8, 8), np.bool_)
    mask[:, :4] = True
    return mask


def test_a_darker_warmer_light_is_found_outside_the_region_alone(frame, region):
    edit = np.rint(frame * [0.8, 0.5, 0.25]).astype(np.uint8)
    expected = edit.copy()
    edit[region] = 255
    assert np.abs(relit(frame, edit, region).astype(int) - expected).max() <= 1


def test_what_an_edit_drew_is_not_kept(frame, region):
    edit = frame.copy()
    edit[0, 4:] = 120 - edit[0, 4:]  # other outlines in much the same light
    kept = relit(frame, edit, region)
    correlation = np.corrcoef(kept[0, 4:, 0], frame[0, 4:, 0])[0, 1]
    assert correlation > 0.99


def test_brighter_than_white_stays_white(frame, region):
    frame[0, 7] = 250
    kept = relit(frame, np.full_like(frame, 255), region)
    assert kept.dtype == np.uint8 and kept[0, 7].tolist() == [255] * 3


def test_black_frames_divide_nothing_by_zero(region):
    black = np.zeros((8, 8, 3), np.uint8)
    assert not relit(black, np.full_like(black, 90), region).any()


@pytest.mark.parametrize("whole", [None, np.ones((8, 8), np.bool_)])
def test_without_an_outside_the_frame_comes_back(frame, whole):
    assert np.array_equal(relit(frame, 255 - frame, whole), frame)
