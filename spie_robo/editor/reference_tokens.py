"""Describe reference photos as tokens: the look of each patch of each photo, in no order.

``photos (N, 3, H, W) -> PatchAutoencoder, EfficientNet-Lite0 -> (N, 256, 304) -> tokens``

The linear patches hold colour and texture to the pixel, the ImageNet features what a patch shows.
Neither holds the patch's place in the photo, so that no layout can be copied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.editor.latents import encode_image
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.vision.features import encoder

PHOTO_SIZE = 256
GRID = 16

_FEATURE_CHANNELS = 112
_LEVELS = 4  # the last level has stride 16


def token_width(latent_channels: int) -> int:
    """Return the number of values that describe a patch of 16x16 pixels."""
    return 4 * latent_channels + _FEATURE_CHANNELS


@torch.no_grad()
def describe_patches(vae: PatchAutoencoder, photos: Tensor) -> Tensor:
    """Describe all patches of photos, without trained weights.

    Args:
        vae: Autoencoder with 8x8 patches.
        photos: (N, 3, 256, 256) in [-1, 1].

    Returns:
        (N, 256, :func:`token_width`).
    """
    latents = functional.pixel_unshuffle(encode_image(vae, photos), 2)
    features = encoder().levels((photos + 1) * 127.5, _LEVELS)[-1]
    features = functional.normalize(features, dim=1) * features.shape[1] ** 0.5
    return torch.cat([latents, features], dim=1).flatten(2).transpose(1, 2)
