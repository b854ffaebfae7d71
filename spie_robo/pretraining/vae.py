"""Stage 1: the autoencoder. No edit can be sharper than it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.editor.latents import decode_image, encode_image
from spie_robo.pretraining.config import PretrainConfig, VaeConfig
from spie_robo.pretraining.images import add_noise, color_jitter, to_unit
from spie_robo.pretraining.loop import Progress, train
from spie_robo.pretraining.pairs import load_pairs

_LEVELS = 4.0


def build_vae(config: VaeConfig) -> AutoencoderKL:
    """A small ``AutoencoderKL`` with scale factor 4 and no attention, good for any size."""
    stages = len(config.widths)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=config.widths,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def reconstruction_loss(
    reconstruction: Tensor, image: Tensor, gradient_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """Absolute difference of pixels, plus that of horizontal and vertical gradients.

    Args:
        reconstruction: (B, 3, H, W) in [-1, 1].
        image: (B, 3, H, W) in [-1, 1].
        gradient_weight: Weight of the second term.

    Returns:
        The loss and its parts.
    """
    pixels = (reconstruction - image).abs().mean()
    gradients = (reconstruction.diff(dim=-1) - image.diff(dim=-1)).abs().mean()
    gradients = gradients + (reconstruction.diff(dim=-2) - image.diff(dim=-2)).abs().mean()
    squared = functional.mse_loss(reconstruction, image).detach()
    metrics = {"psnr": float(10 * torch.log10(_LEVELS / squared)), "gradients": float(gradients)}
    return pixels + gradient_weight * gradients, metrics


@dataclass(frozen=True)
class VaeScore:
    """How well the autoencoder alone keeps held-out, noise-free frames.

    Attributes:
        psnr: dB, mean over frames.
        gradient_ratio: Mean gradient magnitude of the reconstructions over that of the frames.
    """

    psnr: float
    gradient_ratio: float


@torch.no_grad()
def score_vae(vae: nn.Module, images: Tensor) -> VaeScore:
    """Reconstruct frames and compare.

    Args:
        vae: The autoencoder.
        images: uint8 (N, H, W, 3).
    """
    errors, ratio_of, ratio_to = [], 0.0, 0.0
    for chunk in images.split(16):
        image = to_unit(chunk)
        again = decode_image(vae, encode_image(vae, image)).clamp(-1, 1)  # type: ignore[arg-type]
        errors.append((again - image).square().mean(dim=(1, 2, 3)))
        ratio_of += float(_gradient_magnitude(again).sum())
        ratio_to += float(_gradient_magnitude(image).sum())
    psnr = 10 * torch.log10(_LEVELS / torch.cat(errors))
    return VaeScore(float(psnr.mean()), ratio_of / ratio_to)


def _gradient_magnitude(image: Tensor) -> Tensor:
    grey = image.mean(dim=1)
    horizontal, vertical = grey.diff(dim=-1)[:, :-1], grey.diff(dim=-2)[:, :, :-1]
    return (horizontal.square() + vertical.square()).sqrt()


def train_vae(config: PretrainConfig) -> tuple[AutoencoderKL, Progress]:
    """Run the stage, or finish an interrupted one."""
    torch.manual_seed(config.seed)
    settings = config.vae
    vae = build_vae(settings)
    vae.train()
    pairs = load_pairs(config.pairs.folder, config.training_shards[: settings.shards])
    images = torch.from_numpy(
        np.concatenate([pairs["simulator_rgb"], pairs["twin_rgb"]])
    )
    held_out = load_pairs(config.pairs.folder, config.judging_shards)
    judged = {
        name: torch.from_numpy(held_out[f"{name}_rgb"][::8]) for name in ("simulator", "twin")
    }

    def loss_function(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = random_crops(images, settings.optimizer.batch, settings.crop, generator)
        image = color_jitter(to_unit(batch), generator)
        image = add_noise(image, 0.02, generator, share=0.3)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.optimizer.bfloat16):
            posterior = vae.encode(image).latent_dist
            latents = posterior.mean + posterior.std * torch.randn(
                posterior.mean.shape, generator=generator
            )
            spread = posterior.mean.detach().std()
            latents = latents + settings.latent_noise * spread * torch.randn(
                latents.shape, generator=generator
            )
            reconstruction = vae.decode(latents, return_dict=False)[0]
        loss, metrics = reconstruction_loss(
            reconstruction.float(), image, settings.gradient_weight
        )
        divergence = posterior.kl().mean() / latents[0].numel()
        metrics["kl"] = float(divergence)
        return loss + settings.kl_weight * divergence, metrics

    def report(model: nn.Module, progress: Progress) -> None:
        for name, frames in judged.items():
            score = score_vae(model, frames)
            print(
                f"vae {progress.step}: {name} {score.psnr:.2f} dB, "
                f"gradients {score.gradient_ratio:.3f}, {progress.seconds:.0f} s",
                flush=True,
            )

    folder = Path(config.out) / "vae"
    progress = train(vae, loss_function, settings.optimizer, folder, config.seed, report)
    vae.eval()
    return vae, progress


def random_crops(images: Tensor, count: int, edge: int, generator: torch.Generator) -> Tensor:
    """Square crops, half of them mirrored.

    Args:
        images: uint8 (N, H, W, 3).
        count: Number of crops.
        edge: Pixels.
        generator: Source of randomness.

    Returns:
        uint8 (count, edge, edge, 3).
    """
    chosen = torch.randint(len(images), (count,), generator=generator)
    tops = torch.randint(images.shape[1] - edge + 1, (count,), generator=generator)
    lefts = torch.randint(images.shape[2] - edge + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    crops = []
    for index, top, left, mirror in zip(chosen, tops, lefts, mirrored, strict=True):
        crop = images[index, top : top + edge, left : left + edge]
        crops.append(crop.flip(1) if mirror else crop)
    return torch.stack(crops)




