from __future__ import annotations

import pytest
import torch

from spie_robo.errors import ConfigError
from spie_robo.training.objectives.draft import draft_loss


def loss(**changes):
    values = {
        "structural": torch.tensor([0.1, 0.3]),
        "semantic": torch.tensor([0.5, 0.7]),
        "predicted": torch.full((2, 1, 2, 2), 3.0),
        "reference": torch.full((2, 1, 2, 2), 1.0),
        "structural_weight": 0.5,
        "semantic_weight": 2.0,
        "deviations": (0.1, 0.2),
        "pull": 0.25,
    }
    return draft_loss(**(values | changes))


def test_a_case_by_hand():
    value, metrics = loss()
    assert float(value) == pytest.approx(0.5 * 0.2 / 0.1 + 2 * 0.6 / 0.2 + 0.25 * 4)
    assert metrics == pytest.approx(
        {"structural_now": 0.2, "semantic_now": 0.6, "from_reference": 2.0}
    )


def test_without_a_pull_no_reference_is_needed():
    value, metrics = loss(pull=0.0, reference=None)
    assert float(value) == pytest.approx(7.0) and "from_reference" not in metrics


def test_the_gradient_is_that_of_the_advantage():
    semantic = torch.tensor([0.5, 0.7], requires_grad=True)
    loss(semantic=semantic)[0].backward()
    assert torch.allclose(semantic.grad, torch.full((2,), 2.0 / 0.2 / 2))


def test_shapes_that_do_not_fit_and_a_missing_reference_are_refused():
    with pytest.raises(ConfigError, match="one shape"):
        loss(semantic=torch.zeros(3))
    with pytest.raises(ConfigError, match="pull"):
        loss(reference=None)
