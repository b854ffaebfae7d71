"""This module shows what the second editor in training does to labs that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spie_robo.editor.geometry_editor import GeometryNetworks
from spie_robo.editor.geometry_unet import PATCH
from spie_robo.editor.reference_tokens import describe_patches
from spie_robo.editor.references import to_image
from spie_robo.evaluation.baselines import match_histograms, reinhard
from spie_robo.evaluation.distances import perceptual_distance, psnr
from spie_robo.pretraining.mixed_shards import MixedShards
from spie_robo.types import RGB

_SHOWN = 12
_PHOTOS = 2
_MEASURED = 48


@torch.no_grad()
def held_out_preview(networks: GeometryNetworks, held_out: MixedShards, path: Path) -> str:
    """Edit held-out frames, write a grid, and measure.

    Columns of the grid: raw, edited without geometry, edited with it, target, one of the photos.

    Args:
        networks: The editor, as it is.
        held_out: Pairs that no step saw.
        path: Where the grid goes.

    Returns:
        The figures as text: PSNR, perceptual distance and gradients of edits, raw frames,
        histogram matching and Reinhard's transfer.
    """
    images: dict[str, list[RGB]] = {}
    rows = torch.linspace(0, len(held_out) - 1, min(_MEASURED, len(held_out))).long()
    for row in rows.tolist():
        for name, image in _edit(networks, held_out, row).items():
            images.setdefault(name, []).append(image)
    shown = ("raw", "blind", "edited", "target", "photo")
    lines = [
        np.concatenate([images[name][index] for name in shown], axis=1)
        for index in np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)
    ]
    half = (len(lines) + 1) // 2
    lines += [np.zeros_like(lines[0])] * (2 * half - len(lines))
    columns = [np.concatenate(lines[:half]), np.concatenate(lines[half:])]
    Image.fromarray(np.concatenate(columns, axis=1)).save(path)
    return "; ".join(_figures(name, images) for name in ("edited", "blind", "raw", "hist", "reinh"))


def _edit(networks: GeometryNetworks, held_out: MixedShards, row: int) -> dict[str, RGB]:
    photos = held_out.others_of_style(row)[:_PHOTOS].tolist()
    batch = held_out.batch(torch.tensor([row]), [photos])
    patches = describe_patches(networks.vae, batch.references[0]).flatten(0, 1)[None]
    shape = [1, networks.unet.config.noise_channels, *(n // PATCH for n in batch.inputs.shape[2:])]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(row))

    def paint(geometry: Tensor) -> RGB:
        return to_image(networks.paint(batch.inputs, geometry, patches, noise)[0])

    raw, photo = to_image(batch.inputs[0]), to_image(batch.references[0, 0])
    return {
        "raw": raw,
        "edited": paint(batch.geometry),
        "blind": paint(torch.zeros_like(batch.geometry)),
        "target": to_image(batch.targets[0]),
        "photo": photo,
        "hist": match_histograms(raw, photo),
        "reinh": reinhard(raw, photo),
    }


def _figures(name: str, images: dict[str, list[RGB]]) -> str:
    pairs = list(zip(images[name], images["target"], strict=True))
    decibel = np.mean([psnr(image, target) for image, target in pairs])
    distance = perceptual_distance(images[name], images["target"]).mean()
    share = sum(_gradient(image) for image, _ in pairs) / sum(_gradient(t) for _, t in pairs)
    return f"{name} {decibel:.2f} dB {distance:.3f} {share:.2f}"


def _gradient(image: RGB) -> float:
    grey = image.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
