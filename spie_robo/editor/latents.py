"""Convert images to latents and back.

``image --VAE--> z --LatentSpec--> x0``, which diffusion runs on, and the way back. All functions
are pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from spie_robo.errors import ConfigError


@dataclass(frozen=True)
class LatentSpec:
    """The conversion of VAE latents ``z`` to diffusion targets ``x0`` and conditions.

    Plain (stock InstructPix2Pix)::

        x0 = scaling_factor * z_target

    Residual, per channel (``residual_mean`` and ``residual_std`` given)::

        x0 = (z_target - z_input - residual_mean) / residual_std

    Conditions, in both::

        image latent = image_latent_scale * z_input

    Attributes:
        scaling_factor: Scaling factor of the VAE.
        image_latent_scale: 1 in stock InstructPix2Pix, which does not scale image latents.
        residual_mean: C means of ``z_target - z_input``, or None.
        residual_std: C standard deviations of ``z_target - z_input``, or None.
    """

    scaling_factor: float
    image_latent_scale: float = 1.0
    residual_mean: tuple[float, ...] | None = None
    residual_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check that both residual statistics are given or neither, and no deviation is 0."""
        mean, std = self.residual_mean, self.residual_std
        if (mean is None) != (std is None):
            raise ConfigError("residual_mean and residual_std: expected both or neither.")
        if mean is not None and std is not None and len(mean) != len(std):
            raise ConfigError(
                f"residual_mean and residual_std: expected equal lengths, got {len(mean)} and "
                f"{len(std)}."
            )
        if std is not None and min(std) <= 0:
            raise ConfigError(f"residual_std: expected positive numbers, got {std}.")

    @property
    def residual(self) -> bool:
        """True if diffusion runs on the difference to the input's latents."""
        return self.residual_mean is not None


def encode_image(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode images to unscaled VAE latents ``z``, the mode of the posterior.

    Args:
        vae: The autoencoder; its scale factor f divides height and width.
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, C, H / f, W / f).
    """
    return cast(Tensor, vae.encode(images.to(vae.dtype)).latent_dist.mode())


def decode_image(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode unscaled latents ``z`` to images.

    Args:
        vae: The autoencoder.
        latents: (B, C, h, w).

    Returns:
        (B, 3, f h, f w), about [-1, 1], not clipped.
    """
    return cast(Tensor, vae.decode(latents.to(vae.dtype), return_dict=False)[0])


def to_condition(latents: Tensor, spec: LatentSpec) -> Tensor:
    """Scale unscaled latents ``z`` to the image or style latents that the networks take."""
    return latents * spec.image_latent_scale


def to_target(target_latents: Tensor, input_latents: Tensor, spec: LatentSpec) -> Tensor:
    """Convert unscaled latents, all (B, C, h, w), to the diffusion target ``x0``."""
    if not spec.residual:
        return target_latents * spec.scaling_factor
    mean, std = _statistics(spec, target_latents)
    return (target_latents - input_latents - mean) / std


def from_target(clean: Tensor, input_latents: Tensor, spec: LatentSpec) -> Tensor:
    """Convert a diffusion target ``x0`` to unscaled latents ``z``, inverting :func:`to_target`."""
    if not spec.residual:
        return clean / spec.scaling_factor
    mean, std = _statistics(spec, clean)
    return clean * std + mean + input_latents


def encode_target(
    vae: AutoencoderKL, images: Tensor, input_latents: Tensor, spec: LatentSpec
) -> Tensor:
    """Encode target images (B, 3, H, W) in [-1, 1] to diffusion targets ``x0`` (B, C, h, w)."""
    return to_target(encode_image(vae, images), input_latents, spec)


def decode_target(
    vae: AutoencoderKL, clean: Tensor, input_latents: Tensor, spec: LatentSpec
) -> Tensor:
    """Decode diffusion targets ``x0`` (B, C, h, w) to images (B, 3, H, W), about [-1, 1]."""
    return decode_image(vae, from_target(clean, input_latents, spec))


def _statistics(spec: LatentSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(spec.residual_mean, dtype=like.dtype, device=like.device)
    std = torch.tensor(spec.residual_std, dtype=like.dtype, device=like.device)
    return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
