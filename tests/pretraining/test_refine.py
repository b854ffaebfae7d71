from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spie_robo.evaluation.distances import perceptual_distance
from spie_robo.pretraining.discriminator import (
    Discriminator,
    deception_loss,
    discriminator_loss,
)
from spie_robo.pretraining.images import to_bytes
from spie_robo.pretraining.perceptual import perceptual_loss, pyramid


def pictures(seed: int, smooth: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    return torch.nn.functional.avg_pool2d(noise, 9, 1, 4) if smooth else noise


def test_the_perceptual_loss_is_zero_for_equal_pictures_and_grows_with_blur() -> None:
    sharp = pictures(0)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    losses = [perceptual_loss(pyramid(p), pyramid(sharp)) for p in (sharp, blurred)]
    assert losses[0].shape == (2,) and float(losses[0].abs().max()) < 1e-6
    assert float(losses[1].min()) > 0.05


def test_the_perceptual_loss_is_the_metric_without_its_coarsest_level() -> None:
    first, second = pictures(0), pictures(1, smooth=True)
    rounded = [to_bytes(p) for p in (first, second)]
    loss = perceptual_loss(pyramid(first), pyramid(second))
    metric = perceptual_distance(list(rounded[0].numpy()), list(rounded[1].numpy()))
    # 4 of the metric's 5 levels: the means differ by what the fifth adds, at most 4 / 5
    assert torch.all(torch.from_numpy(metric) - 0.8 * loss >= -0.02)
    assert torch.all(torch.from_numpy(metric) - 0.8 * loss <= 0.82)


def test_gradients_reach_the_picture_and_not_the_encoder() -> None:
    picture = pictures(0).requires_grad_()
    perceptual_loss(pyramid(picture), pyramid(pictures(1))).sum().backward()
    assert picture.grad is not None and float(picture.grad.abs().sum()) > 0


def test_losses_by_hand() -> None:
    real, fake = [torch.tensor([[2.0, 0.0]])], [torch.tensor([[-3.0, 1.0]])]
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.5 + 1.0)
    assert float(deception_loss(fake)) == pytest.approx(1.0)


def test_the_discriminator_learns_and_teaches_when_frozen() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    real, fake, photo = (pyramid(p) for p in (pictures(0), pictures(1, True), pictures(2)))
    losses = []
    for _ in range(30):
        loss = discriminator_loss(discriminator(real, photo), discriminator(fake, photo))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]

    optimizer.zero_grad(set_to_none=True)
    picture = pictures(1, True).requires_grad_()
    with discriminator.frozen():
        scores = discriminator(pyramid(picture), photo)
    deception_loss(scores).sum().backward()
    assert picture.grad is not None and float(picture.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())


def test_the_photo_changes_the_score() -> None:
    torch.manual_seed(0)
    discriminator, real = Discriminator(), pyramid(pictures(0))
    one, other = (discriminator(real, pyramid(pictures(s, s == 3)))[0] for s in (2, 3))
    assert not torch.allclose(one, other)
