from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.depth import EmbeddedDepth
from spie_robo.feedback.records import FeedbackInput
from spie_robo.feedback.structural import (
    StructuralScore,
    depth_difference,
    raw_difference,
    resolve_structure,
    true_depth,
)
from spie_robo.types import RGB, Frame, Geometry


def _map(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def _grey(reds: Sequence[int]) -> RGB:
    """16x16, four rows of each red value."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = np.repeat(np.array(reds, np.uint8), 4)[:, None]
    return image


def test_raw_difference_by_hand() -> None:
    assert raw_difference(_map(1, 2, 3), _map(2, 2, 5)) == pytest.approx(1.0)


def test_normalised_difference_by_hand() -> None:
    # median 2, deviations 2 1 0 2 6, mean absolute deviation 11/5; the other map is 0 1 2 3 4:
    # median 2, mean absolute deviation 6/5.
    first, second = _map(0, 1, 2, 4, 8), _map(0, 1, 2, 3, 4)
    one = np.array([-2, -1, 0, 2, 6]) / (11 / 5)
    other = np.array([-2, -1, 0, 1, 2]) / (6 / 5)
    expected = np.abs(one - other).mean()
    assert depth_difference(first, second) == pytest.approx(expected, rel=1e-5)


def test_normalised_difference_ignores_scale_and_offset() -> None:
    depth = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert depth_difference(3 * depth - 7, depth) == pytest.approx(0.0, abs=1e-5)
    assert raw_difference(3 * depth - 7, depth) > 1


def test_pixels_that_do_not_count_change_nothing() -> None:
    first, second = _map(0, 1, 2, 4, 8, 99), _map(0, 1, 2, 3, 4, math.nan)
    valid = np.array([[True] * 5 + [False]])
    expected = depth_difference(first[:, :5], second[:, :5])
    assert depth_difference(first, second, valid) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_gives_nan_and_no_warning(bad: float) -> None:
    for one, other in ((_map(1, bad), _map(1, 2)), (_map(1, 2), _map(1, bad))):
        with np.errstate(all="raise"):
            assert math.isnan(depth_difference(one, other))
            assert math.isnan(raw_difference(one, other))


@pytest.mark.parametrize("k", [2, 4])
def test_paper_scores_are_the_raw_differences_to_the_input(red_depth, k: int) -> None:
    inputs = [FeedbackInput(Frame(_grey([10, 20, 30, 40])), _grey([0, 0, 0, 0]))] * 3
    group = [_grey([10 + i, 20 + i, 30 + i, 40 + i]) for i in range(k)]
    scores = StructuralScore(red_depth, "paper").score(inputs, [group] * 3)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[float(i) for i in range(k)]] * 3


def test_monocular_scores_see_shape_and_not_scale(red_depth) -> None:
    one = FeedbackInput(Frame(_grey([10, 20, 30, 40])), _grey([0, 0, 0, 0]))
    edits = [_grey([20, 40, 60, 80]), _grey([40, 30, 20, 10])]
    scores = StructuralScore(red_depth, "monocular").score([one], [edits])
    assert scores[0, 0] == pytest.approx(0.0, abs=1e-6)
    # both maps are -1.5 -0.5 0.5 1.5, reversed: mean |difference| is 2 once, divided by 1
    assert scores[0, 1] == pytest.approx(2.0)


def test_the_map_of_an_input_is_made_once(red_depth) -> None:
    frame = Frame(_grey([10, 20, 30, 40]))
    one = FeedbackInput(frame, _grey([0, 0, 0, 0]))
    StructuralScore(red_depth, "monocular").score([one], [[_grey([1, 2, 3, 4])] * 4])
    assert sum(image is frame.rgb for image in red_depth.seen) == 1
    assert len(red_depth.seen) == 5


@pytest.mark.parametrize(
    ("scale", "depth"),
    [
        ("log", np.exp([0.1, 0.2, 0.3, 0.4])),
        ("inverse", 1 / np.array([0.4, 0.3, 0.2, 0.1])),
    ],
)
def test_simulator_compares_with_the_true_depth_on_the_judges_scale(
    red_depth, scale: str, depth: NDArray[np.float64]
) -> None:
    rows = np.repeat(depth.astype(np.float32), 4)[:, None]
    truth = np.ascontiguousarray(np.broadcast_to(rows, (16, 16)))
    # A judge that is right up to scale and offset scores 0, though the raw frame looks wrong.
    frame = Frame(_grey([99, 1, 5, 7]), geometry=Geometry(depth=truth))
    one = FeedbackInput(frame, frame.rgb)
    edits = [_grey([10, 20, 30, 40]), _grey([40, 30, 20, 10])]
    scores = StructuralScore(red_depth, "simulator", scale).score([one], [edits])
    assert scores[0, 0] == pytest.approx(0.0, abs=1e-4)
    assert scores[0, 1] == pytest.approx(2.0, abs=1e-4)
    assert len(red_depth.seen) == 2  # the frame's own map is not needed


def test_unknown_true_depth_does_not_count(red_depth) -> None:
    depth = np.full((16, 16), 2.0, np.float32)
    depth[:8] = 3.0
    depth[0, :3] = (np.inf, np.nan, 0.0)
    scaled, known = true_depth(Frame(_grey([0] * 4), geometry=Geometry(depth)), (16, 16), "log")
    assert known.sum() == 16 * 16 - 3
    assert np.isfinite(scaled).all()
    assert scaled[15, 15] == pytest.approx(math.log(2.0))


def test_true_depth_comes_on_the_judges_grid() -> None:
    depth = np.full((16, 16), 2.0, np.float32)
    depth[:8] = 4.0
    frame = Frame(_grey([0] * 4), geometry=Geometry(depth))
    scaled, _ = true_depth(frame, (4, 8), "inverse")
    assert scaled.shape == (4, 8)
    assert scaled[0, 0] == pytest.approx(-0.25)
    assert scaled[3, 7] == pytest.approx(-0.5)


def test_simulator_without_depth_is_refused(red_depth) -> None:
    frames = [
        Frame(_grey([0] * 4), "wrist"),
        Frame(_grey([0] * 4), "wrist", Geometry()),
        Frame(_grey([0] * 4), "wrist", Geometry(np.zeros((16, 16), np.float32))),
    ]
    for frame in frames:
        with pytest.raises(FrameError, match=r"'wrist'.*'monocular'"):
            StructuralScore(red_depth).score([FeedbackInput(frame, frame.rgb)], [[frame.rgb]])


def test_a_judge_that_fails_gives_nan_for_that_edit_only(red_depth) -> None:
    class Flaky:
        def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
            maps = red_depth.depth(images)
            return [m if m[0, 0] else np.full_like(m, np.nan) for m in maps]

    frame = Frame(_grey([10, 20, 30, 40]))
    edits = [_grey([0, 1, 2, 3]), _grey([1, 2, 3, 4])]
    for kind in ("monocular", "paper"):
        one = FeedbackInput(frame, frame.rgb)
        scores = StructuralScore(Flaky(), kind).score([one], [edits])
        assert scores.isnan().tolist() == [[True, False]]


def test_the_embedded_judge_sees_no_difference_where_there_is_none(
    noise: Callable[..., RGB],
) -> None:
    frame = Frame(noise(0))
    one = FeedbackInput(frame, frame.rgb)
    edits = [frame.rgb, noise(1)]
    scores = StructuralScore(EmbeddedDepth(), "monocular").score([one], [edits])
    assert scores[0, 0] == 0.0
    assert scores[0, 1] > 0.0


def test_frames_without_depth_are_held_to_what_the_judge_sees_in_them():
    rgb = np.zeros((16, 16, 3), np.uint8)
    known = Frame(rgb, geometry=Geometry(depth=np.ones((16, 16), np.float32)))
    bare = Frame(rgb)
    config = FeedbackConfig(structure="simulator")
    assert resolve_structure(config, [known, known]) == (config, "")
    chosen, note = resolve_structure(config, [known, bare, bare])
    assert chosen.structure == "monocular"
    assert "2 of 3 frames have no depth" in note
    paper = FeedbackConfig(structure="paper")
    assert resolve_structure(paper, [bare]) == (paper, "")
