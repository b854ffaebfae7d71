"""Stage 2: the autoencoder, in closed form. No edit can be sharper than it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spie_robo.editor.latents import decode_image, encode_image
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.evaluation.distances import psnr
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.pretraining.config import PretrainConfig
from spie_robo.pretraining.images import to_bytes, to_unit
from spie_robo.pretraining.pairs import load_pairs


@dataclass(frozen=True)
class AutoencoderScore:
    """A score tells how well the autoencoder alone keeps held-out, noise-free frames.

    Attributes:
        psnr: dB, mean over frames.
        gradient_ratio: Gradient magnitude of the reconstructions over that of the frames.
    """

    psnr: float
    gradient_ratio: float


def fit_autoencoder(config: PretrainConfig) -> PatchAutoencoder:
    """Compute the autoencoder from simulator and twin frames of the first training shards."""
    settings = config.autoencoder
    pairs = load_pairs(config.pairs.folder, config.training_shards[: settings.shards])
    frames = np.concatenate([pairs["simulator_rgb"], pairs["twin_rgb"]])
    images = to_unit(torch.from_numpy(frames))
    fitted: PatchAutoencoder = PatchAutoencoder.fit(
        images, settings.latent_channels, settings.patch
    )
    return fitted


@torch.no_grad()
def score_autoencoder(autoencoder: PatchAutoencoder, images: Tensor) -> AutoencoderScore:
    """Encode and decode frames, and compare.

    Args:
        autoencoder: The autoencoder.
        images: uint8 (N, H, W, 3).
    """
    again = to_bytes(decode_image(autoencoder, encode_image(autoencoder, to_unit(images))))
    pairs = list(zip(again.numpy(), images.numpy(), strict=True))
    return AutoencoderScore(
        float(np.mean([psnr(a, b) for a, b in pairs])),
        float(np.nanmean([gradient_ratio(a, b) for a, b in pairs])),
    )
