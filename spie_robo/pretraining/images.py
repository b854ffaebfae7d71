"""Augmentations of image batches, all (B, 3, H, W) float in [-1, 1], all from a generator."""

from __future__ import annotations

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Float (B, 3, H, W) in [-1, 1] to uint8 (B, H, W, 3); values outside are clipped."""
    scaled = (images.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1)


def jitter_colors(images: Tensor, generator: torch.Generator, strength: float = 0.15) -> Tensor:
    """Random gain of each channel and a common random offset, per image."""
    count = len(images)
    gain = 1 + strength * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    offset = strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    return (images * gain + offset).clamp(-1, 1)


def add_noise(
    images: Tensor, deviation: float, generator: torch.Generator, share: float = 1.0
) -> Tensor:
    """Gaussian sensor noise of a random strength on a share of the images.

    Args:
        images: The batch.
        deviation: Largest standard deviation, in units of the full range 0..1.
        generator: Source of randomness.
        share: Share of images that get noise.
    """
    count = len(images)
    strength = torch.rand(count, 1, 1, 1, generator=generator) * deviation * 2
    strength = strength * (torch.rand(count, 1, 1, 1, generator=generator) < share)
    noise = torch.randn(images.shape, generator=generator)
    return (images + strength * noise).clamp(-1, 1)
