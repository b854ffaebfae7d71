from __future__ import annotations

import math

import pytest
import torch

from spie_robo.feedback.ranking import rank
from spie_robo.feedback.records import Scores


def test_two_edits_by_hand() -> None:
    structural = torch.tensor([[0.0, 2.0], [2.0, 4.0]])  # mean 2, deviation sqrt(2)
    semantic = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # mean 0.5, deviation 0.5
    feedback = rank(Scores(structural, semantic), semantic_weight=2.0)
    root = math.sqrt(2)
    assert torch.allclose(feedback.structural_z, torch.tensor([[-root, 0.0], [0.0, root]]))
    assert torch.allclose(feedback.semantic_z, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    expected = torch.tensor([[root - 2, 2.0], [2.0, -root - 2]])
    assert torch.allclose(feedback.advantages, expected)
    assert feedback.ranking.tolist() == [[1, 0], [0, 1]]
    assert feedback.ranking.dtype == torch.int64
    assert feedback.scorable.tolist() == [True, True]


def test_four_edits_are_ranked_best_first_within_their_input() -> None:
    structural = torch.tensor([[3.0, 1.0, 4.0, 2.0], [30.0, 40.0, 20.0, 10.0]])
    feedback = rank(Scores(structural, torch.zeros(2, 4)))
    assert feedback.ranking.tolist() == [[1, 3, 0, 2], [3, 2, 0, 1]]


def test_equal_advantages_keep_their_order() -> None:
    scores = Scores(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 4))
    assert rank(scores).ranking.tolist() == [[1, 3, 0, 2]]


def test_a_weight_of_zero_leaves_a_score_out() -> None:
    scores = Scores(torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, 0.0]]))
    assert rank(scores, structural_weight=0.0).ranking.tolist() == [[1, 0]]
    assert rank(scores, semantic_weight=0.0).ranking.tolist() == [[0, 1]]


def test_equal_scores_give_no_advantage_however_small_their_rounding() -> None:
    scores = Scores(torch.full((7, 3), 0.1), torch.full((7, 3), 1 / 3))
    assert rank(scores).advantages.abs().max() < 1e-6
    nearly = torch.full((7, 3), 0.1)
    nearly[0, 0] += 1e-8
    assert rank(Scores(nearly, torch.zeros(7, 3))).advantages.abs().max() < 0.02


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_group_with_a_score_that_is_not_finite_counts_for_nothing(bad: float) -> None:
    structural = torch.tensor([[0.0, 2.0], [5.0, bad], [2.0, 4.0]])
    semantic = torch.tensor([[1.0, 0.0], [70.0, 3.0], [0.0, 1.0]])
    with_bad = rank(Scores(structural, semantic))
    without = rank(Scores(structural[[0, 2]], semantic[[0, 2]]))
    assert with_bad.scorable.tolist() == [True, False, True]
    assert torch.equal(with_bad.advantages[[0, 2]], without.advantages)
    assert with_bad.advantages[1].tolist() == [0.0, 0.0]
    assert with_bad.ranking[1].tolist() == [0, 1]


def test_nothing_scorable_is_no_error() -> None:
    feedback = rank(Scores(torch.full((2, 2), math.nan), torch.zeros(2, 2)))
    assert not feedback.scorable.any()
    assert feedback.advantages.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_scores_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Scores(torch.zeros(2, 2), torch.zeros(2, 3))
