from __future__ import annotations

import pytest
import torch

from spie_robo.errors import ConfigError
from spie_robo.training.objectives.nft import nft_loss


def numbers(*values):
    """(B, 1, 1, 2): two latent elements a row."""
    return torch.tensor(values)[:, None, None, :]


def test_by_hand():
    # x0 = (1, 2), v = (0.5, 1), v_o = (0, 1), beta 0.5, A = 1 of A_max 2: r = 0.75
    #   v+ = 0.5 v + 0.5 v_o = (0.25, 1)     error (0.5625 + 1) / 2    = 0.78125
    #   v- = 1.5 v_o - 0.5 v = (-0.25, 1)    error (1.5625 + 1) / 2    = 1.28125
    #   loss = (0.75 * 0.78125 + 0.25 * 1.28125) / 0.5                 = 1.8125
    arguments = (numbers([1.0, 2.0]), numbers([0.5, 1.0]), numbers([0.0, 1.0]))
    kwargs = {"beta": 0.5, "advantage_max": 2.0}
    loss, metrics = nft_loss(*arguments, None, torch.tensor([1.0]), **kwargs, adaptive=False)
    assert float(loss) == pytest.approx(1.8125)
    assert metrics["good"] == pytest.approx(0.75)
    assert metrics["moved"] == pytest.approx((0.125) ** 0.5)
    # adaptive: the errors are divided by mean |v+ - x0| = 0.875 and mean |v- - x0| = 1.125
    loss, _ = nft_loss(*arguments, None, torch.tensor([1.0]), **kwargs, adaptive=True)
    assert float(loss) == pytest.approx((0.75 * 0.78125 / 0.875 + 0.25 * 1.28125 / 1.125) / 0.5)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize(("advantage", "sign"), [(5.0, 1), (0.0, 0), (-5.0, -1), (1.0, 1)])
def test_good_edits_attract_and_bad_ones_repel(advantage, sign, beta, adaptive):
    clean, old = numbers([1.0, -2.0]), numbers([0.5, 0.5])
    predicted = old.clone().requires_grad_()
    loss, _ = nft_loss(
        clean, predicted, old, None, torch.tensor([advantage]),
        beta=beta, advantage_max=2.0, adaptive=adaptive,
    )  # fmt: skip
    loss.backward()
    towards = (clean - old).sign()
    if sign == 0:
        torch.testing.assert_close(predicted.grad, torch.zeros_like(old), atol=1e-7, rtol=0)
    else:
        assert torch.equal((-predicted.grad).sign(), sign * towards)


def test_the_gradient_at_the_old_policy_is_the_weighted_difference():
    """``d/dv = 2 (2r - 1) (v - x0) / elements``, whatever beta is."""
    clean, old = numbers([1.0, -2.0]), numbers([0.5, 0.5])
    for beta in (0.2, 1.0):
        predicted = old.clone().requires_grad_()
        nft_loss(
            clean, predicted, old, None, torch.tensor([1.0]),
            beta=beta, advantage_max=1.0, adaptive=False,
        )[0].backward()  # fmt: skip
        torch.testing.assert_close(predicted.grad, (old - clean))


def test_the_old_policy_gets_no_gradient():
    predicted = numbers([0.5, 0.5]).requires_grad_()
    loss, _ = nft_loss(
        numbers([1.0, 1.0]), predicted, predicted, None, torch.tensor([5.0]),
        beta=0.5, advantage_max=1.0, adaptive=False,
    )  # fmt: skip
    loss.backward()
    torch.testing.assert_close(predicted.grad, numbers([-0.5, -0.5]))


def test_the_pull_leads_to_the_reference():
    clean = numbers([1.0, 1.0])
    predicted = numbers([0.5, 0.5]).requires_grad_()
    arguments = (clean, predicted, predicted)
    kwargs = {"beta": 1.0, "advantage_max": 1.0, "adaptive": False}
    reference = numbers([0.0, 0.25])
    pulled, _ = nft_loss(*arguments, reference, torch.zeros(1), **kwargs, pull=0.1)
    free, _ = nft_loss(*arguments, reference, torch.zeros(1), **kwargs)
    assert float((pulled - free).detach()) == pytest.approx(0.1 * (0.25 + 0.0625) / 2)
    pulled.backward()
    torch.testing.assert_close(predicted.grad, 0.1 * numbers([0.5, 0.25]))


def test_what_does_not_fit_is_refused():
    one, two = numbers([1.0, 1.0]), numbers([1.0, 1.0], [1.0, 1.0])
    kwargs = {"beta": 1.0, "advantage_max": 1.0}
    with pytest.raises(ConfigError, match="expected one shape"):
        nft_loss(one, two, one, None, torch.zeros(1), **kwargs)
    with pytest.raises(ConfigError, match="advantages"):
        nft_loss(two, two, two, None, torch.zeros(1), **kwargs)
    with pytest.raises(ConfigError, match="pull"):
        nft_loss(one, one, one, None, torch.zeros(1), **kwargs, pull=0.1)
