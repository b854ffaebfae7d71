"""This module shows what an editor in training does to styles that it never saw."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spie_robo.editor.latents import encode_image
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.pretraining.config import PretrainConfig
from spie_robo.pretraining.images import to_bytes, to_unit
from spie_robo.pretraining.pairs import load_pairs

_COUNT = 16


@functools.cache
def _held_out(folder: str, shards: range) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, targets and references (another scene of the style), uint8 (N, H, W, 3)."""
    pairs = load_pairs(folder, shards)
    styles = torch.from_numpy(pairs["style_id"])
    first = torch.tensor([int(torch.nonzero(styles == s)[0]) for s in np.unique(pairs["style_id"])])
    first = first[torch.linspace(0, len(first) - 1, _COUNT).long()]
    simulator, twin = torch.from_numpy(pairs["simulator_rgb"]), torch.from_numpy(pairs["twin_rgb"])
    return simulator[first], twin[first], twin[first + 3]


@torch.no_grad()
def preview(pipeline: SpiePipeline, config: PretrainConfig, path: Path) -> str:
    """Edit held-out frames, write the grid raw | edited | target | reference, and measure.

    Returns:
        The figures as text: PSNR to the target of the raw and of the edited frames, and the
        edits' gradient magnitude as a share of the targets'.
    """
    settings = config.editing
    raw, target, reference = _held_out(config.pairs.folder, config.judging_shards)
    generators = [torch.Generator().manual_seed(i) for i in range(len(raw))]
    edited = to_bytes(
        pipeline(
            to_unit(raw),
            [settings.instruction] * len(raw),
            generators,
            style_latents=encode_image(pipeline.vae, to_unit(reference)),
            guidance=settings.guidance,
            steps=settings.steps,
            eta=settings.eta,
            initial_noise=settings.initial_noise,
        )
    )
    columns = torch.cat([raw, edited, target, reference], dim=2)
    grid = torch.cat(
        [torch.cat(list(columns[: _COUNT // 2])), torch.cat(list(columns[_COUNT // 2 :]))], 1
    )
    Image.fromarray(grid.numpy()).save(path)
    share = _gradients(edited) / _gradients(target)
    return (
        f"raw {_psnr(raw, target):.2f} dB, edited {_psnr(edited, target):.2f} dB, "
        f"gradients {share:.2f}"
    )


def _psnr(images: Tensor, targets: Tensor) -> float:
    squared = (images.float() - targets.float()).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(255**2 / squared.clamp(min=1e-3))).mean())


def _gradients(images: Tensor) -> float:
    grey = images.float().mean(dim=-1)
    return float(grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean())
