"""Losses on what a frozen image encoder sees: sharper than a squared error, which blurs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.vision.features import encoder

LEVELS = 4
"""Strides 2, 4, 8 and 16 of the encoder."""


def pyramid(images: Tensor) -> list[Tensor]:
    """Features of images (B, 3, H, W) in [-1, 1], differentiable, finest level first."""
    return encoder().levels_with_gradient((images + 1) * 127.5, LEVELS)


def perceptual_loss(edits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean over levels and positions of ``|| f(edit) - f(target) ||^2``, f of unit length.

    The distance of :func:`spie_robo.evaluation.distances.perceptual_distance`, without the level
    of stride 32.

    Args:
        edits: :func:`pyramid` of the edits.
        targets: That of their targets.

    Returns:
        (B,).
    """
    levels = []
    for edit, target in zip(edits, targets, strict=True):
        difference = functional.normalize(edit, dim=1) - functional.normalize(target, dim=1)
        levels.append(difference.square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(levels).mean(dim=0)
