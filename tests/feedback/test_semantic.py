from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.feedback.records import FeedbackInput
from spie_robo.feedback.semantic import (
    SemanticScore,
    mean_distance,
    nearest_distance,
    outside_error,
    select,
)
from spie_robo.types import RGB, Frame

RED, GREEN = (255, 0, 0), (0, 255, 0)


def _halves(left: Sequence[int], right: Sequence[int], size: int = 32) -> RGB:
    image = np.empty((size, size, 3), np.uint8)
    image[:, : size // 2], image[:, size // 2 :] = left, right
    return image


def _left(size: int = 32) -> np.ndarray:
    mask = np.zeros((size, size), np.bool_)
    mask[:, : size // 2] = True
    return mask


def test_both_distances_by_hand() -> None:
    edit = torch.tensor([[2.0, 0.0], [3.0, 3.0]])
    reference = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    # cosines: 1, 0, -1 and 1/sqrt2, 1/sqrt2, -1/sqrt2
    half = 1 / math.sqrt(2)
    assert mean_distance(edit, reference) == pytest.approx(1 - half / 6, rel=1e-5)
    assert nearest_distance(edit, reference) == pytest.approx((0 + 1 - half) / 2, rel=1e-5)


def test_nearest_is_measured_from_the_edit_to_the_photo() -> None:
    one, both = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert nearest_distance(one, both) == pytest.approx(0.0)
    assert nearest_distance(both, one) == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_give_nan(bad: float) -> None:
    good, broken = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [bad, 0.0]])
    for distance in (mean_distance, nearest_distance):
        assert math.isnan(distance(broken, good))
        assert math.isnan(distance(good, broken))


def test_outside_error_by_hand() -> None:
    frame, edit = _halves((0, 0, 0), (0, 0, 0)), _halves((255, 255, 255), (51, 0, 0))
    assert outside_error(edit, frame, _left()) == pytest.approx(0.2**2 / 3)
    assert outside_error(edit, frame, ~_left()) == pytest.approx(1.0)


def test_without_a_region_there_is_no_outside() -> None:
    frame, edit = _halves((0, 0, 0), (0, 0, 0)), _halves(RED, GREEN)
    assert outside_error(edit, frame, None) == 0.0
    assert outside_error(edit, frame, np.ones((32, 32), np.bool_)) == 0.0


@pytest.mark.parametrize("k", [2, 4])
def test_the_score_by_hand(colour_patches, k: int) -> None:
    frame = Frame(_halves((0, 0, 0), (100, 100, 100)))
    photo = _halves(RED, GREEN)
    one = FeedbackInput(frame, photo, frame_region=_left(), photo_region=_left())
    same = _halves(RED, (100, 100, 100))  # as the photo inside, as the frame outside
    other = _halves(GREEN, (151, 100, 100))
    group = ([same, other] * 2)[:k]
    expected = [0.0, 1.0 + 0.5 * 0.2**2 / 3] * (k // 2)
    for kind in ("paper", "nearest"):
        scores = SemanticScore(colour_patches, kind).score([one, one], [group, group])
        assert scores.shape == (2, k) and scores.dtype == torch.float32
        assert torch.allclose(scores, torch.tensor([expected, expected]), atol=1e-6)


def test_the_paper_s_mean_and_nearest_differ_on_a_photo_of_two_colours(colour_patches) -> None:
    one = FeedbackInput(Frame(_halves(GREEN, GREEN)), _halves(RED, GREEN))
    edit = _halves(RED, GREEN)
    assert SemanticScore(colour_patches, "paper").score([one], [[edit]]).item() == pytest.approx(
        0.5
    )
    assert SemanticScore(colour_patches, "nearest").score([one], [[edit]]).item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_the_weight_of_the_outside_is_the_config_s(colour_patches) -> None:
    frame = Frame(_halves(RED, (0, 0, 0)))
    one = FeedbackInput(frame, frame.rgb, _left(), _left())
    edit = _halves(RED, (255, 255, 255))
    for weight in (0.0, 0.5, 2.0):
        score = SemanticScore(colour_patches, rec_lambda=weight).score([one], [[edit]])
        assert score.item() == pytest.approx(weight, abs=1e-6)


def test_the_outside_is_held_to_the_picture_that_an_input_has(colour_patches) -> None:
    frame = Frame(_halves((0, 0, 0), (100, 100, 100)))
    kept = _halves((0, 0, 0), (50, 50, 50))
    edit = _halves(RED, (50, 50, 50))
    held = FeedbackInput(frame, _halves(RED, RED), _left(), kept=kept)
    score = SemanticScore(colour_patches, "nearest", rec_lambda=1.0)
    by_kept = float(score.score([held], [[edit]]))
    by_frame = float(score.score([dataclasses.replace(held, kept=None)], [[edit]]))
    assert by_frame - by_kept == pytest.approx((50 / 255) ** 2, rel=1e-4)


def test_a_kept_picture_of_another_size_is_refused() -> None:
    with pytest.raises(FrameError, match=r"kept picture of shape \(32, 32, 3\)"):
        FeedbackInput(Frame(_halves(RED, RED)), _halves(RED, RED), kept=_halves(RED, RED, 16))


def test_the_region_selects_patches_in_reading_order() -> None:
    grid = torch.arange(8.0).reshape(2, 4, 1)
    region = np.zeros((32, 64), np.bool_)
    region[16:, 16:48] = True
    assert select(grid, region).ravel().tolist() == [5.0, 6.0]
    assert select(grid, None).ravel().tolist() == list(range(8))


def test_a_photo_of_another_size_is_cropped_as_the_editor_does(colour_patches) -> None:
    wide = np.concatenate([_halves(GREEN, GREEN, 64), _halves(RED, RED, 64)], axis=1)
    photo = np.concatenate([wide[:, :32], np.full((64, 64, 3), 255, np.uint8), wide[:, -32:]], 1)
    one = FeedbackInput(Frame(_halves(RED, RED)), photo)  # the middle 64x64 is white
    score = SemanticScore(colour_patches, "nearest").score([one], [[_halves((9, 9, 9), (9, 9, 9))]])
    assert score.item() == pytest.approx(0.0, abs=1e-6)
    assert colour_patches.seen[0].shape == (32, 32, 3)


def test_a_small_region_of_a_large_photo_does_not_vanish(colour_patches) -> None:
    photo = np.zeros((640, 640, 3), np.uint8)
    photo[...] = GREEN
    photo[:320, :320] = RED
    region = np.zeros((640, 640), np.bool_)
    region[100:108, 100:108] = True
    one = FeedbackInput(Frame(_halves(RED, RED)), photo, photo_region=region)
    score = SemanticScore(colour_patches).score([one], [[_halves(RED, RED)]])
    assert score.item() == pytest.approx(0.0, abs=1e-6)


def test_a_photo_region_that_the_crop_cuts_off_is_refused(colour_patches) -> None:
    photo = np.zeros((32, 128, 3), np.uint8)
    region = np.zeros((32, 128), np.bool_)
    region[:, :10] = True
    one = FeedbackInput(Frame(_halves(RED, RED)), photo, photo_region=region)
    with pytest.raises(ReferencePhotoError, match="outside the middle"):
        SemanticScore(colour_patches).score([one], [[_halves(RED, RED)]])


def test_a_photo_s_features_are_made_once_for_all_inputs(colour_patches) -> None:
    photo = _halves(RED, GREEN)
    inputs = [FeedbackInput(Frame(_halves(RED, RED)), photo) for _ in range(3)]
    SemanticScore(colour_patches).score(inputs, [[_halves(RED, RED)] * 2] * 3)
    assert len(colour_patches.seen) == 1 + 6


def test_two_photos_of_one_size_are_not_confused(colour_patches) -> None:
    frame = Frame(_halves(RED, RED))
    inputs = [FeedbackInput(frame, _halves(RED, RED)), FeedbackInput(frame, _halves(GREEN, GREEN))]
    scores = SemanticScore(colour_patches).score(inputs, [[frame.rgb]] * 2)
    assert scores.ravel().tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_one_photo_with_two_regions_is_two_references(colour_patches) -> None:
    frame, photo = Frame(_halves(RED, RED)), _halves(RED, GREEN)
    inputs = [
        FeedbackInput(frame, photo, photo_region=_left()),
        FeedbackInput(frame, photo, photo_region=~_left()),
    ]
    scores = SemanticScore(colour_patches).score(inputs, [[frame.rgb]] * 2)
    assert scores.ravel().tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_broken_features_of_one_edit_are_its_own_matter(
    colour_patches, noise: Callable[..., RGB]
) -> None:
    class Flaky:
        def patches(self, images: Sequence[RGB]) -> list[torch.Tensor]:
            grids = colour_patches.patches(images)
            return [
                g * math.nan if i[0, 0, 0] == 7 else g for g, i in zip(grids, images, strict=True)
            ]

    broken = noise(1)
    broken[0, 0, 0] = 7
    fine = noise(2)
    fine[0, 0, 0] = 8
    photo = noise(3)
    photo[0, 0, 0] = 8
    one = FeedbackInput(Frame(noise(0)), photo)
    for kind in ("paper", "nearest"):
        scores = SemanticScore(Flaky(), kind).score([one], [[broken, fine]])
        assert scores.isnan().tolist() == [[True, False]]
