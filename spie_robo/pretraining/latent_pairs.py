"""Rendered pairs as latents of the finished VAE, encoded once before the UNet is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from spie_robo.editor.latents import encode_image
from spie_robo.pretraining.images import add_noise, color_jitter, to_unit
from spie_robo.pretraining.pairs import load_pairs

VARIANTS = 2
"""Variant 0 is as rendered; variant 1 is mirrored, its style's colours shifted alike in target
and reference."""

_CHUNK = 32


@dataclass(frozen=True, eq=False)
class LatentPairs:
    """N scenes in V variants.

    Attributes:
        inputs: (V, N, C, h, w): the simulator's frames.
        targets: (V, N, C, h, w): the same scenes in their styles.
        references: (V, N, C, h, w): the same photos cropped, mirrored, with sensor noise; used
            as references for *other* scenes of the style.
        style_ids: int64 (N,).
    """

    inputs: Tensor
    targets: Tensor
    references: Tensor
    style_ids: Tensor

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.style_ids)

    def partners(self, scenes: Tensor, generator: torch.Generator) -> Tensor:
        """For each scene another scene of the same style, int64 (B,)."""
        partners = []
        for scene in scenes.tolist():
            others = torch.nonzero(self.style_ids == self.style_ids[scene]).flatten()
            others = others[others != scene]
            pick = torch.randint(len(others), (1,), generator=generator)
            partners.append(others[pick])
        return torch.cat(partners)

    def residual_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of target minus input."""
        residual = (self.targets - self.inputs).float()
        return residual.mean(dim=(0, 1, 3, 4)), residual.std(dim=(0, 1, 3, 4))


def encode_pairs(
    vae: AutoencoderKL, folder: str, shards: range, cache: Path, seed: int
) -> LatentPairs:
    """Encode shards, or load what an earlier call encoded.

    Args:
        vae: The finished autoencoder.
        folder: Where the pairs are.
        shards: Which of them.
        cache: File to keep the latents in.
        seed: Of the augmentations.

    Returns:
        The latents, float16 in memory.
    """
    if not cache.exists():
        tensors = _encode(vae, folder, shards, seed)
        staged = cache.with_suffix(".partial")
        save_file(tensors, staged)
        os.replace(staged, cache)
    return LatentPairs(**load_file(cache))


@torch.inference_mode()
def _encode(vae: AutoencoderKL, folder: str, shards: range, seed: int) -> dict[str, Tensor]:
    columns: dict[str, list[list[Tensor]]] = {
        name: [[] for _ in range(VARIANTS)] for name in ("inputs", "targets", "references")
    }
    style_ids = []
    for shard in tqdm(shards, desc="encoding pairs", unit="shard"):
        pairs = load_pairs(folder, range(shard, shard + 1))
        styles = torch.from_numpy(pairs["style_id"]).long()
        style_ids.append(styles)
        for variant in range(VARIANTS):
            generator = torch.Generator().manual_seed(seed * 7919 + shard * VARIANTS + variant)
            simulator = to_unit(torch.from_numpy(pairs["simulator_rgb"]))
            twin = to_unit(torch.from_numpy(pairs["twin_rgb"]))
            if variant == 1:
                simulator, twin = simulator.flip(-1), twin.flip(-1)
                twin = _jitter_styles(twin, styles, generator)
            columns["inputs"][variant].append(_encode_chunks(vae, simulator))
            columns["targets"][variant].append(_encode_chunks(vae, twin))
            reference = add_noise(random_zoom(twin, generator), 0.03, generator)
            columns["references"][variant].append(_encode_chunks(vae, reference))
    stacked = {
        name: torch.stack([torch.cat(parts) for parts in variants])
        for name, variants in columns.items()
    }
    return {**stacked, "style_ids": torch.cat(style_ids)}


def _encode_chunks(vae: AutoencoderKL, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([encode_image(vae, chunk).half() for chunk in images.split(_CHUNK)])


def _jitter_styles(images: Tensor, style_ids: Tensor, generator: torch.Generator) -> Tensor:
    """One colour shift a style, so that a scene's reference still shows its target's look."""
    jittered = images.clone()
    for style in style_ids.unique():
        rows = style_ids == style
        height, width = images.shape[-2:]
        # One tall image: all rows of the style receive the same gains.
        tall = images[rows].permute(1, 0, 2, 3).reshape(1, 3, -1, width)
        tall = color_jitter(tall, generator, strength=0.25)
        jittered[rows] = tall.reshape(3, -1, height, width).permute(1, 0, 2, 3)
    return jittered


def random_zoom(images: Tensor, generator: torch.Generator, smallest: float = 0.55) -> Tensor:
    """A random crop of each image, half of them mirrored, brought back to the full size.

    Args:
        images: (B, 3, H, W).
        generator: Source of randomness.
        smallest: Smallest edge of a crop, as a share of the image's.

    Returns:
        (B, 3, H, W).
    """
    height, width = images.shape[-2:]
    zoomed = []
    for image in images:
        share, top, left, mirror = torch.rand(4, generator=generator).tolist()
        edge = smallest + (1 - smallest) * share
        rows, columns = round(edge * height), round(edge * width)
        y, x = round(top * (height - rows)), round(left * (width - columns))
        crop = image[:, y : y + rows, x : x + columns]
        crop = functional.interpolate(crop[None], (height, width), mode="bilinear", antialias=True)
        zoomed.append(crop.flip(-1) if mirror < 0.5 else crop)
    return torch.cat(zoomed)
