"""Encode small image patches by whitened principal components, for the embedded editor.

A learned convolutional VAE of this size, trained for an hour, blurs (28 dB). The linear optimum
for 4x4 patches needs no training: 16 of the 48 components keep tabletop frames at 37 to 41 dB with
all of their gradients, cost one strided convolution each way, and, being orthogonal, do not enlarge
an error of the diffusion model from latents to pixels.
"""

from __future__ import annotations

import math
from typing import final

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from spie_robo.errors import ConfigError

_NO_VARIANCE = -30.0


@final
class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """A linear autoencoder with the interface of diffusers' ``AutoencoderKL``.

    With the patch ``p`` of P x P x 3 pixel values, their mean ``m``, the leading C eigenvectors
    ``V`` of their covariance and its eigenvalues ``s^2``::

        z = diag(1 / s) V^T (p - m)          unit variance in every channel
        p = V diag(s) z + m

    Args:
        latent_channels: C, at most 3 P^2.
        patch: P, a power of 2; it is the scale factor.
        scaling_factor: As in ``AutoencoderKL``; 1, since latents have unit variance.
        block_out_channels: Ignored, because it follows from the others; the config has it because
            diffusers reads the scale factor from its length: 2 ** (len - 1).

    Raises:
        ConfigError: If P is not a power of 2 or C does not fit.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        patch: int = 4,
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] | None = None,
    ) -> None:
        """Make an autoencoder with random weights; use :meth:`fit` to compute them."""
        super().__init__()
        levels = round(math.log2(patch)) if patch > 0 else -1
        if levels < 1 or 2**levels != patch:
            raise ConfigError(f"patch: expected a power of 2 from 2 up, got {patch}.")
        if not 0 < latent_channels <= 3 * patch**2:
            raise ConfigError(
                f"latent_channels: expected 1 to {3 * patch**2}, got {latent_channels}."
            )
        self.register_to_config(block_out_channels=(latent_channels,) * (levels + 1))
        self.encoder = nn.Conv2d(3, latent_channels, patch, stride=patch)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, patch, stride=patch)

    @classmethod
    def fit(cls, images: Tensor, latent_channels: int = 16, patch: int = 4) -> PatchAutoencoder:
        """Compute the principal components of images, in closed form without random draws.

        Args:
            images: (N, 3, H, W) in [-1, 1]; H and W multiples of ``patch``.
            latent_channels: C.
            patch: P.
        """
        autoencoder: PatchAutoencoder = cls(latent_channels, patch)
        patches = nn.functional.unfold(images, patch, stride=patch).transpose(1, 2)
        values = patches.reshape(-1, 3 * patch**2).double()
        mean = values.mean(dim=0)
        variances, vectors = torch.linalg.eigh(torch.cov((values - mean).T))
        components = vectors.flip(1)[:, :latent_channels]
        # The sign of an eigenvector is arbitrary: fix it, so that it is the same on every machine.
        components = components * components.sum(dim=0).sign().where(components.sum(0) != 0, 1.0)
        deviations = variances.flip(0)[:latent_channels].clamp(min=1e-8).sqrt()
        analysis = (components / deviations).T
        shape = (latent_channels, 3, patch, patch)
        assert autoencoder.encoder.bias is not None and autoencoder.decoder.bias is not None
        with torch.no_grad():
            autoencoder.encoder.weight.copy_(analysis.reshape(shape))
            autoencoder.encoder.bias.copy_(-analysis @ mean)
            autoencoder.decoder.weight.copy_((components * deviations).T.reshape(shape))
            # A transposed convolution has one bias for each colour, not for each pixel of a patch.
            autoencoder.decoder.bias.copy_(mean.reshape(3, -1).mean(dim=1))
        return autoencoder

    def encode(self, images: Tensor) -> AutoencoderKLOutput:
        """Encode images to latents.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            A distribution without spread over latents (B, C, H / P, W / P).
        """
        mean = self.encoder(images)
        parameters = torch.cat([mean, torch.full_like(mean, _NO_VARIANCE)], dim=1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(parameters, True))

    def decode(
        self, latents: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Decode latents (B, C, h, w) to images (B, 3, P h, P w), not clipped."""
        images = self.decoder(latents)
        return DecoderOutput(sample=images) if return_dict else (images,)
