"""Structure that an edit adds to its raw frame.

Twice the same question, with two ideas of what is usual. On a surface that is smooth in truth, is
there a place with far more new structure than the surface has elsewhere? Grain and planks belong to
a surface as a whole; an object that was put there does not. And anywhere, rims and patterns
included, is there a place with far more new structure than the picture has elsewhere?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.guard.outlines import PLACE
from spie_robo.guard.stack import Stack, smooth

_COVERED: Final = 0.45
"""Share of a place that must lie on smooth surfaces."""
_FLAT: Final = (0.35, 1.0)
"""Structure that a blank surface may have, in grey levels a reference pixel: the first in edits
that add nothing anywhere, the second in all that add something to a tenth of the picture."""
_EXPLAINED: Final = 1.5
"""On surfaces, structure of the raw frame counts this many times before the edit's is new."""
_OUTSTANDING: Final = 1.5
"""A surface's busiest places count as at most this many times its mean."""
_COMMON: Final = 1.5
"""Factor on the structure that a tenth of the picture exceeds, to count as usual."""
_STRIDE: Final = 7
"""Every how many pixels the picture's quantiles are taken from."""


@final
@dataclass(frozen=True, eq=False)
class Structure:
    """New structure of each edit.

    Attributes:
        inserted: float32, (B,): the most on a smooth surface, relative to the rest of it.
        inserted_at: int64, (B, 2): its column and row.
        added: float32, (B,): the most anywhere, relative to the rest of the picture.
        added_at: int64, (B, 2): its column and row.
    """

    inserted: Tensor
    inserted_at: Tensor
    added: Tensor
    added_at: Tensor


def new_structure(stack: Stack, edits: Tensor) -> Structure:
    """Measure the structure that edits add.

    Args:
        stack: What the edits are held to.
        edits: float32, (B, 3, H, W), 0..255.
    """
    pixels = stack.pixels
    before, after = gradients(stack.raw, pixels), gradients(edits, pixels)
    near = _highest(before, round(pixels))
    gain = (after * before).sum((1, 2)) / before.square().sum((1, 2)).clamp(min=1.0)
    fresh = (after - gain.clamp(0.3, 1.5)[:, None, None] * near).clamp(min=0)
    local = _mean(fresh, pixels)
    tenth = torch.quantile(local.flatten(1)[:, ::_STRIDE], 0.9, dim=1)[:, None, None]
    flat = (2 * tenth).clamp(*_FLAT)
    inserted, inserted_at = _peak(_on_surfaces(stack, after, near, flat))
    added, added_at = _peak(local / (_FLAT[1] + _COMMON * tenth))
    return Structure(inserted, inserted_at, added, added_at)


def _on_surfaces(stack: Stack, after: Tensor, near: Tensor, flat: Tensor) -> Tensor:
    """New structure at each place of a surface, relative to the surface's usual, (B, H, W)."""
    on_surface = (stack.surfaces > 0).float()
    fresh = (after - _EXPLAINED * near).clamp(min=0) * on_surface * stack.trust
    local = _mean(fresh, stack.pixels) / stack.share.clamp(min=1e-3)
    judged = on_surface * (stack.share > _COVERED)

    # The usual structure of a surface: its mean, to which no place adds more than its share.
    labels, values, mask = stack.surfaces.flatten(1), local.flatten(1), judged.flatten(1)
    empty = values.new_zeros(len(values), int(labels.max()) + 1)
    count = empty.scatter_add(1, labels, mask).clamp(min=1)
    mean = empty.scatter_add(1, labels, values * mask) / count
    capped = torch.minimum(values, _OUTSTANDING * mean.gather(1, labels)) * mask
    usual = (empty.scatter_add(1, labels, capped) / count).gather(1, labels)
    return judged * local / (flat + usual.reshape(local.shape))


def gradients(images: Tensor, pixels: float) -> Tensor:
    """Strength of the slopes of smoothed pictures.

    Args:
        images: float32, (B, C, H, W), 0..255.
        pixels: Grid pixels a reference pixel.

    Returns:
        float32, (B, H, W), in grey levels a reference pixel.
    """
    for _ in range(max(1, round(2 * pixels**2))):
        images = smooth(images, 0.25)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return (right.square() + down.square()).sum(1).sqrt() * (0.5 * pixels)


def _highest(values: Tensor, reach: int) -> Tensor:
    """The highest value within a square, (B, H, W)."""
    for _ in range(reach):
        padded = functional.pad(values, (1, 1, 1, 1))
        rows = torch.maximum(torch.maximum(padded[:, :-2], padded[:, 2:]), padded[:, 1:-1])
        values = torch.maximum(torch.maximum(rows[..., :-2], rows[..., 2:]), rows[..., 1:-1])
    return values


def _mean(values: Tensor, pixels: float) -> Tensor:
    """The mean of a square, zeros beyond the border, (B, H, W)."""
    reach = round(PLACE * pixels)
    size = 2 * reach + 1
    height, width = values.shape[-2:]
    padded = functional.pad(values, (reach, reach, reach, reach))
    rows = padded[:, :height].clone()
    for step in range(1, size):
        rows += padded[:, step : step + height]
    total = rows[..., :width].clone()
    for step in range(1, size):
        total += rows[..., step : step + width]
    return total / size**2


def _peak(score: Tensor) -> tuple[Tensor, Tensor]:
    value, index = score.flatten(1).max(-1)
    width = score.shape[-1]
    return value, torch.stack([index % width, index // width], dim=-1)
