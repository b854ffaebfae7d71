"""Readings along rims: is there an edge where the raw frame has one, and how far has it moved?

Colours are sampled on lines across the rim and averaged along each piece of it, so that grain and
noise cancel while the rim stays. The slopes of the edit's averaged line are compared with those of
the raw frame's, by strength and not by sign or hue: a change of look may turn a dark object on a
light table into a light one on a dark table, but leaves the rim where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.guard.stack import Stack, smooth, sum_pieces

_REACH: Final = 9
"""Samples on either side of a rim, one a pixel."""
_HALF: Final = 3
"""Samples on either side that are compared."""
SEARCHED: Final = _REACH - 1 - _HALF
"""Farthest that a rim is looked for, in pixels either way."""
_FAINT: Final = 6.0
_CLEAR: Final = 18.0
"""A rim counts from the first contrast on and in full from the second, in grey levels a pixel."""
_SOFT: Final = 0.11
"""Weight of each neighbour in the blur before sampling."""
_BESIDE: Final = 0.7
"""Share of the slopes beside a rim that is taken off its own, as noise and texture."""
_NEARER: Final = 0.01
"""Gain that a match must bring for each pixel that it lies farther away."""
_DOUBT: Final = 2.0


@final
@dataclass(frozen=True, eq=False)
class Readings:
    """Readings along the pieces of the rims.

    Attributes:
        weight: float32, (B, M): how much a piece counts: its points, where the raw frame has an
            edge; 0 where it has none.
        kept: float32, (B, M), 0..1: contrast in place relative to the raw frame's, after a change
            of contrast that the whole frame shares.
        match: float32, (B, M, 2 S + 1): likeness 0..1 of the edit's slopes to the raw frame's for
            each displacement from -S to S pixels.
        displacement: float32, (B, M): where the match is best, in pixels along the normal.
        confidence: float32, (B, M), 0..1: how far the displacement can be relied on.
    """

    weight: Tensor
    kept: Tensor
    match: Tensor
    displacement: Tensor
    confidence: Tensor


def read_rims(stack: Stack, edits: Tensor) -> Readings:
    """Compare edits with their raw frames along all rims.

    Args:
        stack: What the edits are held to.
        edits: float32, (B, 3, H, W), 0..255.
    """
    before, after = _slopes(stack, stack.raw), _slopes(stack, edits)
    outlines = stack.member.sum(1) > 0
    clear, left = _above_noise(before, outlines), _above_noise(after, outlines)
    weight = ((clear - _FAINT) / (_CLEAR - _FAINT)).clamp(0, 1) * stack.count.clamp(max=8.0)
    # A darker or flatter picture has weaker edges everywhere; that alone melts nothing.
    shared = (left * weight).sum(-1) / (clear * weight).sum(-1).clamp(min=1e-6)
    expected = clear * shared.clamp(0.2, 1.0)[:, None]
    kept = (left / expected.clamp(min=1e-6)).clamp(max=1)
    match = _match(before, after)
    displacement, best = _best(match)
    confidence = ((best - 0.5) / 0.4).clamp(0, 1) * (3 * kept).clamp(max=1)
    return Readings(weight, kept, match, displacement, confidence)


def _above_noise(slopes: Tensor, outlines: Tensor) -> Tensor:
    """Contrast in place, less what there is beside it, (B, M).

    Args:
        slopes: float32, (B, M, 2 R - 1).
        outlines: bool, (B, M): pieces of a silhouette, beside which is outside: inside a small one
            lies its other rim.
    """
    middle = slopes.shape[-1] // 2
    outside = slopes[..., middle + 3 : middle + 7]
    both = torch.cat([slopes[..., middle - 6 : middle - 2], outside], dim=-1)
    beside = torch.where(outlines, outside.median(-1).values, both.median(-1).values)
    in_place = slopes[..., middle - 1 : middle + 2].amax(-1)
    return (in_place - _BESIDE * beside).clamp(min=0)


def _slopes(stack: Stack, images: Tensor) -> Tensor:
    """Strength of the slopes across each piece, (B, M, 2 R - 1)."""
    height, width = images.shape[-2:]
    steps = torch.arange(-_REACH, _REACH + 1, device=images.device, dtype=torch.float32)
    places = stack.points[:, :, None] + steps[:, None] * stack.normals[:, :, None]
    grid = (places + 0.5) * places.new_tensor([2.0 / width, 2.0 / height]) - 1.0
    sampled = functional.grid_sample(
        smooth(images, _SOFT), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    batch, channels, points, samples = sampled.shape
    lines = sampled.permute(0, 2, 3, 1).reshape(batch, points, samples * channels)
    pieces = stack.count.shape[1]
    mean = sum_pieces(lines, stack.piece, pieces) / stack.count.clamp(min=1)[..., None]
    mean = mean.reshape(batch, pieces, samples, channels)
    slopes = (mean[:, :, 2:] - mean[:, :, :-2]) * 0.5
    return slopes.square().sum(-1).sqrt()


def _match(before: Tensor, after: Tensor) -> Tensor:
    """Normalised correlation of slopes for every displacement."""
    middle = before.shape[-1] // 2
    wanted = before[..., middle - _HALF : middle + _HALF + 1]
    shown = after.unfold(-1, 2 * _HALF + 1, 1)
    product = (shown * wanted[..., None, :]).sum(-1)
    lengths = [slopes.square().sum(-1).sqrt() for slopes in (wanted, shown)]
    return product / ((lengths[0][..., None] + _DOUBT / 2) * (lengths[1] + _DOUBT))


def _best(match: Tensor) -> tuple[Tensor, Tensor]:
    """The displacement of the best match, to a fraction of a pixel, and how good it is."""
    reach = match.shape[-1] // 2
    steps = torch.arange(-reach, reach + 1, device=match.device, dtype=match.dtype)
    index = (match - _NEARER * steps.abs()).argmax(-1)
    inner = index.clamp(1, 2 * reach - 1)
    left, at, right = (match.gather(-1, (inner + step)[..., None])[..., 0] for step in (-1, 0, 1))
    # The top of the parabola through the best match and its neighbours.
    bend = left - 2 * at + right
    offset = torch.where(bend < -1e-4, 0.5 * (left - right) / bend, torch.zeros_like(bend))
    best = match.gather(-1, index[..., None])[..., 0]
    return inner - reach + offset.clamp(-0.7, 0.7), best
