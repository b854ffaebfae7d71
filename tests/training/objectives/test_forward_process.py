from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler

from spie_robo.training.objectives.nft import noised, predicted_clean

TIMESTEPS = torch.tensor([0, 250, 600, 999])


def latents(seed):
    return torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_noising_is_the_scheduler_s():
    scheduler = DDIMScheduler(beta_schedule="scaled_linear")
    clean, noise = latents(0), latents(1)
    expected = scheduler.add_noise(clean, noise, TIMESTEPS)
    torch.testing.assert_close(noised(scheduler, clean, noise, TIMESTEPS), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_a_perfect_prediction_gives_back_what_was_noised(kind, scheduler_class):
    scheduler = scheduler_class(beta_schedule="scaled_linear", prediction_type=kind)
    clean, noise = latents(0), latents(1)
    alphas = scheduler.alphas_cumprod[TIMESTEPS].view(-1, 1, 1, 1)
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * clean
    output = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[kind]
    noisy = noised(scheduler, clean, noise, TIMESTEPS)
    found = predicted_clean(scheduler, output, noisy, TIMESTEPS)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)
