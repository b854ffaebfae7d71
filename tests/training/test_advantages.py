from __future__ import annotations

import torch

from spie_robo.feedback.ranking import rank
from spie_robo.feedback.records import Scores
from spie_robo.training.advantages import within_groups


def test_by_hand():
    semantic = torch.tensor([[1.0, 3.0], [11.0, 15.0], [float("nan"), 0.0]])
    feedback = rank(Scores(torch.zeros_like(semantic), semantic))
    grouped = within_groups(feedback)
    # centred -1, 1 and -2, 2; deviation sqrt((1 + 1 + 4 + 4) / 4)
    expected = torch.tensor([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]])
    expected = expected / 2.5**0.5
    torch.testing.assert_close(grouped.advantages, expected)
    assert torch.equal(grouped.ranking, feedback.ranking)
    assert grouped.scorable.tolist() == [True, True, False]


def test_a_hard_frame_is_no_bad_edit():
    scores = torch.tensor([[1.0, 2.0], [8.0, 9.0]])
    feedback = rank(Scores(scores, scores))
    assert (feedback.advantages[1] < 0).all()
    torch.testing.assert_close(
        within_groups(feedback).advantages, torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    )


def test_equal_edits_get_nothing():
    scores = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert within_groups(rank(Scores(scores, scores))).advantages.abs().max() == 0


def test_no_scorable_group_is_no_error():
    scores = torch.full((2, 2), float("nan"))
    assert torch.equal(within_groups(rank(Scores(scores, scores))).advantages, torch.zeros(2, 2))
