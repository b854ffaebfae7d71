from __future__ import annotations

import math

import pytest

from spie_robo.feedback.nearness import nearer, nearer_in_words


@pytest.mark.parametrize(
    ("before", "after", "better", "share"),
    [
        (0.6, 0.45, "lower", 0.25),
        (0.6, 0.0, "lower", 1.0),  # nothing can be nearer
        (0.4, 0.5, "lower", -0.25),
        (0.6, 0.7, "higher", 0.25),
        (0.6, 1.0, "higher", 1.0),
    ],
)
def test_the_share_by_which_a_distance_became_smaller(before, after, better, share) -> None:
    assert nearer(before, after, better) == pytest.approx(share)


def test_words_say_the_direction() -> None:
    assert nearer_in_words(0.174) == "17 % nearer"
    assert nearer_in_words(-0.03) == "3 % farther"
    assert nearer_in_words(math.nan) == ""
    assert math.isnan(nearer(0.0, 0.1))
