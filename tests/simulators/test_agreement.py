"""Whether a picture and its geometry fit: on drawn scenes, and on frames of real simulators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spie_robo.errors import FrameError
from spie_robo.simulators import best_orientation, outline_contrast
from spie_robo.simulators.orientation import BOTTOM_ROW_FIRST, MIRRORED, ROTATED, UPRIGHT
from spie_robo.types import Geometry

FRAMES = Path(__file__).resolve().parents[3] / "shared" / "frames"


def scene(noise=0):
    """A picture with two boxes, and the ids of its pixels."""
    ids = np.zeros((64, 80), np.int32)
    ids[8:20, 50:70], ids[30:50, 6:16] = 1, 2
    colours = np.array([[120, 120, 120], [200, 60, 60], [60, 160, 60]], np.uint8)
    rough = np.random.default_rng(0).normal(0, noise, (*ids.shape, 3))
    return (colours[ids] + rough).clip(0, 255).astype(np.uint8), ids


@pytest.mark.parametrize("noise", [0, 10])
@pytest.mark.parametrize("turn", [UPRIGHT, BOTTOM_ROW_FIRST, MIRRORED, ROTATED], ids=str)
def test_the_turn_of_a_picture_is_found_by_its_edges(turn, noise):
    picture, ids = scene(noise)
    assert best_orientation(turn.turn(picture), Geometry(segmentation=ids)) == turn


def test_depth_alone_tells_it_too_where_it_jumps():
    picture, ids = scene()
    depth = np.where(ids == 0, 2.0, 1.5).astype(np.float32)
    depth[:4] = np.nan
    assert best_orientation(ROTATED.turn(picture), Geometry(depth=depth)) == ROTATED


def test_a_picture_without_edges_or_outlines_says_nothing():
    picture, ids = scene()
    assert outline_contrast(np.full_like(picture, 90), Geometry(segmentation=ids)) == 1.0
    assert outline_contrast(picture, Geometry(segmentation=np.zeros_like(ids))) == 1.0
    with pytest.raises(FrameError, match="segmentation or depth"):
        outline_contrast(picture, Geometry())


@pytest.mark.skipif(not FRAMES.is_dir(), reason="the frames of other simulators are not here")
@pytest.mark.parametrize("name", ["fetch", "metaworld", "panda_gym", "robosuite_Lift", "aloha"])
def test_frames_of_real_simulators_fit_their_own_segmentation_and_no_turned_one(name):
    frames = np.load(FRAMES / f"{name}.npz", allow_pickle=False)
    right = [
        best_orientation(frames[f"{i}/rgb"], Geometry(segmentation=frames[f"{i}/seg"])) == UPRIGHT
        for i in range(int(frames["n"]))
    ]
    assert np.mean(right) >= 0.95
