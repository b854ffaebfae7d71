from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from spie_robo.errors import ConfigError
from spie_robo.training.objectives import spie
from spie_robo.training.preference import preference_loss


def log_probs(*rows):
    """(N, K, 1) of numbers."""
    return torch.tensor(rows)[:, :, None]


def zeros_like(tensor):
    return torch.zeros_like(tensor)


def test_two_edits_are_compared_as_d3po_compares_them():
    policy = log_probs([0.05, -0.02], [-0.03, 0.04])
    reference = log_probs([0.01, 0.01], [0.02, 0.0])
    loss, _ = preference_loss(policy, reference, torch.tensor([[0, 1], [0, 1]]), beta=0.3, eps=0.5)
    margins = torch.tensor([0.04 - -0.03, -0.05 - 0.04])
    torch.testing.assert_close(loss, -logsigmoid(0.3 * margins).mean())


def test_three_edits_by_hand():
    # Ratios 1.2, 1.0, 0.9 in rank order, beta 1:
    #   -log(1.2 / 3.1) - log(1.0 / 1.9) - log(1)
    by_rank = [math.log(1.2), 0.0, math.log(0.9)]
    policy = log_probs([by_rank[1], by_rank[2], by_rank[0]])
    ranking = torch.tensor([[2, 0, 1]])
    loss, metrics = preference_loss(policy, zeros_like(policy), ranking, beta=1.0, eps=0.5)
    assert float(loss) == pytest.approx(math.log(3.1 / 1.2) + math.log(1.9), abs=1e-6)
    assert metrics["ratio"] == pytest.approx(3.1 / 3, abs=1e-6)
    assert metrics["accuracy"] == 1.0 and metrics["clipped"] == 0.0


def test_beta_is_an_exponent_of_the_ratios():
    policy = log_probs([math.log(1.2), 0.0, math.log(0.9)])
    loss, _ = preference_loss(
        policy, zeros_like(policy), torch.tensor([[0, 1, 2]]), beta=2.0, eps=0.5
    )
    a, b, c = 1.2**2, 1.0, 0.9**2
    expected = -math.log(a / (a + b + c)) - math.log(b / (b + c))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_the_mean_goes_over_steps_and_inputs():
    generator = torch.Generator().manual_seed(0)
    policy = 0.05 * torch.randn(3, 4, 5, generator=generator)
    reference = 0.05 * torch.randn(3, 4, 5, generator=generator)
    ranking = torch.stack([torch.randperm(4, generator=generator) for _ in range(3)])
    whole, _ = preference_loss(policy, reference, ranking, beta=0.5, eps=0.2)
    parts = [
        preference_loss(
            policy[n : n + 1, :, s : s + 1],
            reference[n : n + 1, :, s : s + 1],
            ranking[n : n + 1],
            beta=0.5,
            eps=0.2,
        )[0]
        for n in range(3)
        for s in range(5)
    ]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_ratios_are_clipped_on_both_sides():
    policy = log_probs([3.0, -3.0])
    loss, metrics = preference_loss(
        policy, zeros_like(policy), torch.tensor([[0, 1]]), beta=1.0, eps=0.1
    )
    assert float(loss) == pytest.approx(-math.log(1.1 / (1.1 + 0.9)), abs=1e-6)
    assert metrics["clipped"] == 1.0 and metrics["ratio"] == pytest.approx(1.0)


def test_a_clipped_ratio_has_no_gradient():
    policy = log_probs([3.0, 0.0]).requires_grad_()
    loss, _ = preference_loss(policy, zeros_like(policy), torch.tensor([[0, 1]]), beta=1.0, eps=0.1)
    loss.backward()
    assert policy.grad[0, 0] == 0 and policy.grad[0, 1] > 0


def test_descent_makes_better_edits_likelier():
    policy = torch.zeros(1, 3, 2, requires_grad=True)
    loss, _ = preference_loss(
        policy, zeros_like(policy), torch.tensor([[1, 2, 0]]), beta=0.1, eps=0.1
    )
    loss.backward()
    direction = -policy.grad.sum(dim=2)[0]
    assert direction[1] > direction[2] > direction[0]
    assert direction[1] > 0 > direction[0]


def test_the_other_ranking_gives_the_other_direction():
    gradients = []
    for ranking in ([[0, 1]], [[1, 0]]):
        policy = torch.zeros(1, 2, 1, requires_grad=True)
        preference_loss(
            policy, zeros_like(policy), torch.tensor(ranking), beta=0.1, eps=0.1
        )[0].backward()  # fmt: skip
        gradients.append(policy.grad)
    assert torch.equal(gradients[0], -gradients[1]) and gradients[0].abs().min() > 0


@pytest.mark.parametrize(
    ("policy", "reference", "ranking", "beta", "eps", "match"),
    [
        ((2, 2), (2, 2), [[0, 1], [0, 1]], 0.1, 0.1, "log_probs"),
        ((1, 2, 3), (1, 2, 2), [[0, 1]], 0.1, 0.1, "log_probs"),
        ((1, 2, 3), (1, 2, 3), [[0, 1, 2]], 0.1, 0.1, "ranking: expected shape"),
        ((1, 2, 3), (1, 2, 3), [[1, 1]], 0.1, 0.1, "permutation"),
        ((1, 2, 3), (1, 2, 3), [[1, 2]], 0.1, 0.1, "permutation"),
        ((1, 2, 3), (1, 2, 3), [[0, 1]], 0.0, 0.1, "beta"),
        ((1, 2, 3), (1, 2, 3), [[0, 1]], 0.1, 1.0, "eps"),
        ((1, 2, 3), (1, 2, 3), [[0, 1]], 0.1, 0.0, "eps"),
        ((1, 2, 3), (1, 2, 3), [[0, 1]], float("nan"), 0.1, "beta"),
    ],
)
def test_what_does_not_fit_is_refused(policy, reference, ranking, beta, eps, match):
    with pytest.raises(ConfigError, match=match):
        preference_loss(
            torch.zeros(policy),
            torch.zeros(reference),
            torch.tensor(ranking),
            beta=beta,
            eps=eps,
        )


def test_the_example_runs():
    assert doctest.testmod(spie).attempted > 0
    assert doctest.testmod(spie).failed == 0
