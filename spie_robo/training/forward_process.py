"""Noising latents and reading predictions, for any scheduler with ``alphas_cumprod``."""

from __future__ import annotations

from typing import TypeAlias

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

Scheduler: TypeAlias = DDIMScheduler | EulerAncestralDiscreteScheduler


def noised(scheduler: Scheduler, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """``x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise``: unit variance, as the UNet was trained.

    Args:
        scheduler: Gives the cumulative products a.
        clean: (B, C, h, w), x0.
        noise: (B, C, h, w), standard normal.
        timesteps: int64 (B,).
    """
    signal, sigma = _levels(scheduler, clean, timesteps)
    return signal * clean + sigma * noise


def predicted_clean(
    scheduler: Scheduler, output: Tensor, noisy: Tensor, timesteps: Tensor
) -> Tensor:
    """The ``x0`` (B, C, h, w) that a model output for ``noisy`` implies."""
    signal, sigma = _levels(scheduler, noisy, timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (noisy - sigma * output) / signal.clamp(min=1e-4)
    if kind == "v_prediction":
        return signal * noisy - sigma * output
    return output


def _levels(scheduler: Scheduler, like: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    alphas = scheduler.alphas_cumprod.to(like.device, torch.float32)[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()
