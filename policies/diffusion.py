"""Denoise actions, conditioned on observations, with Diffusion Policy.

Source: Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion" (RSS 2023);
its convolutional network is scaled down for a CPU.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.errors import ConfigError
from spie_robo.policies.base import Policy, PolicySpec

NOISE_STEPS = 100
_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": NOISE_STEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "epsilon",
    "clip_sample": True,
}
_GROUPS = 8


@final
class DiffusionPolicy(Policy):
    """A policy that learns the noise in a chunk of actions (DDPM) and removes it (DDIM).

    Raises:
        ConfigError: If the horizon is odd, because the network halves it once.
    """

    def __init__(self, spec: PolicySpec) -> None:
        """Draw the weights from torch's global generator."""
        if spec.horizon % 2:
            raise ConfigError(
                f"horizon: expected an even number with diffusion, got {spec.horizon}."
            )
        super().__init__(spec)
        width = max(_GROUPS, spec.hidden // 4 // _GROUPS * _GROUPS)
        self.denoiser = ConditionalUnet1d(spec.action_dim, self.encoder.output_dim, width)
        self._noising = DDPMScheduler(**_SCHEDULE)

    def chunk_loss(
        self, features: Tensor, chunk: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean squared error of the predicted noise, at random noise steps."""
        noise = torch.randn(chunk.shape, generator=generator).to(chunk.device)
        times = torch.randint(0, NOISE_STEPS, (len(chunk),), generator=generator).to(chunk.device)
        noisy = self._noising.add_noise(chunk, noise, times)
        loss = functional.mse_loss(self.denoiser(noisy, times, features), noise)
        return loss, {"noise_mse": float(loss.detach())}

    def predict(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Denoise random actions, (B, H, A), by deterministic DDIM."""
        scheduler = DDIMScheduler(**_SCHEDULE)
        scheduler.set_timesteps(self.spec.denoising_steps)
        shape = (len(features), self.spec.horizon, self.spec.action_dim)
        chunk = torch.randn(shape, generator=generator).to(features.device)
        for time in scheduler.timesteps:
            times = time.expand(len(chunk)).to(features.device)
            noise = self.denoiser(chunk, times, features)
            chunk = scheduler.step(noise, time, chunk).prev_sample
        return chunk


@final
class ConditionalUnet1d(nn.Module):
    """A 1-D UNet over time with two resolutions; FiLM conditions each block by scale and shift.

    Args:
        action_dim: Number of values in an action.
        condition_dim: Length of the vector of observations.
        width: Channels at full resolution, twice as many at half.
    """

    def __init__(self, action_dim: int, condition_dim: int, width: int = 64) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        self._time_dim = width
        self.time = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        condition = condition_dim + width
        self.down = nn.ModuleList(
            [_Block(action_dim, width, condition), _Block(width, width, condition)]
        )
        self.downsample = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(
            [_Block(width, 2 * width, condition), _Block(2 * width, 2 * width, condition)]
        )
        self.upsample = nn.ConvTranspose1d(2 * width, width, 4, stride=2, padding=1)
        self.up = nn.ModuleList(
            [_Block(2 * width, width, condition), _Block(width, width, condition)]
        )
        self.out = nn.Conv1d(width, action_dim, 1)

    def forward(self, chunk: Tensor, times: Tensor, features: Tensor) -> Tensor:
        """Predict the noise in a chunk.

        Args:
            chunk: (B, H, A), noisy actions.
            times: int64, (B,), steps of the noise schedule.
            features: (B, condition_dim), vectors of observations.

        Returns:
            (B, H, A), the predicted noise.
        """
        condition = torch.cat([features, self.time(_sinusoids(times, self._time_dim))], dim=1)
        x = chunk.movedim(1, 2)
        for block in self.down:
            x = block(x, condition)
        skip, x = x, self.downsample(x)
        for block in self.middle:
            x = block(x, condition)
        x = torch.cat([self.upsample(x), skip], dim=1)
        for block in self.up:
            x = block(x, condition)
        noise: Tensor = self.out(x)
        return noise.movedim(1, 2)


@final
class _Block(nn.Module):
    """Two convolutions with a residual; the condition scales and shifts between them."""

    def __init__(self, channels_in: int, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels)
        self.second = _convolution(channels, channels)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * channels))
        same = channels_in == channels
        self.residual: nn.Module = nn.Identity() if same else nn.Conv1d(channels_in, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Turn (B, channels_in, H) into (B, channels, H)."""
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        y: Tensor = self.second(self.first(x) * (1 + scale) + shift) + self.residual(x)
        return y


def _convolution(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels, 5, padding=2),
        nn.GroupNorm(_GROUPS, channels),
        nn.Mish(),
    )


def _sinusoids(times: Tensor, size: int) -> Tensor:
    """Return sines and cosines of a step, (B, size), at wavelengths from 2 pi to 20,000 pi."""
    half = size // 2
    frequencies = torch.exp(
        -math.log(10_000) * torch.arange(half, device=times.device) / max(1, half - 1)
    )
    angles = times[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
