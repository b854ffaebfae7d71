"""Find where silhouettes and parts of the picture have gone: fits of one motion to many rim pieces.

A piece of rim sees motion across itself only. A shift ``t`` and a growth ``g`` (in pixels of the
outline) move the piece with normal ``n`` at ``p`` by ``n . t + g (p - c) . n / r`` along that
normal, where ``c`` and ``r`` are centre and radius. Both are fitted by weighted least squares,
reweighted twice so that single misread pieces count little. What is reported is the least that the
fit allows: the estimate less its standard errors, and no shift if the rims match no better there
than in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from spie_robo.guard.rims import Readings
from spie_robo.guard.stack import Stack

_ROUNDS: Final = 3
_MISREAD: Final = 0.7
"""A piece this far off the common motion counts half, in pixels."""
_READING_ERROR: Final = 0.05
"""Standard error of a single perfect reading, in pixels."""
_GAIN: Final = 0.05
"""Gain in matching rims that a motion must bring, per square pixel of it."""
_FAR: Final = 2.0
"""Motions farther than this need no better match than this one, in pixels."""
_SURE: Final = 2.0
_LEAST_WEIGHT: Final = 3.0
_WINDOW: Final = 14.0
"""Standard deviation of a window, in reference pixels."""
_WINDOW_STEP: Final = 20.0
_LEAST_WINDOW: Final = 15.0
_SCATTER: Final = 0.5
"""Pieces farther off have moved; they say nothing of how well rims are read, in pixels."""
_FULLY_KEPT: Final = 0.35
_FULL_MATCH: Final = 0.85


@final
@dataclass(frozen=True, eq=False)
class Placement:
    """Positions of silhouettes, and of parts of the picture, in an edit.

    Attributes:
        judged: bool, (B, G): silhouettes whose outline the raw frame shows.
        outline: float32, (B, G), 0..1: how much of the outline the edit draws in place.
        moved: float32, (B, G): least shift, in reference pixels.
        resized: float32, (B, G): least growth or shrinking of the radius, in reference pixels.
        warped: float32, (B, W): least shift of each window, in reference pixels.
        windows: float32, (W, 2): column and row of the windows' centres.
    """

    judged: Tensor
    outline: Tensor
    moved: Tensor
    resized: Tensor
    warped: Tensor
    windows: Tensor


def place(stack: Stack, readings: Readings) -> Placement:
    """Fit the motion of every silhouette and window.

    Args:
        stack: What the edits are held to.
        readings: What was read along their rims.
    """
    own = stack.member * readings.weight[:, None]
    total = own.sum(-1)
    judged = total >= _LEAST_WEIGHT
    groups = own.shape[1]

    # Silhouettes, which may also grow, and windows all over the picture, which see the rest.
    radius = stack.radius.clamp(min=1.0)
    outward = ((stack.centre[:, None] - stack.middle[:, :, None]) * stack.normal[:, None]).sum(-1)
    growth = torch.where(stack.radius[..., None] > 0, outward / radius[..., None], 0.0)
    windows, near = _windows(stack)
    seen = near * readings.weight[:, None]
    growth = torch.cat([growth, torch.zeros_like(near)], dim=1)
    normals = stack.normal[:, None].expand(-1, growth.shape[1], -1, -1)
    motion = _fit(
        torch.cat([normals, growth[..., None]], dim=-1), readings, torch.cat([own, seen], 1)
    )
    shift = (motion.shift - 2 * motion.shift_error).clamp(min=0) / stack.pixels

    # An edit whose rims scatter everywhere shows a small change of size less surely.
    sure = readings.weight * readings.confidence
    off = readings.displacement.abs().clamp(max=_SCATTER)
    scatter = (sure * off).sum(-1) / sure.sum(-1).clamp(min=1e-6)
    grown = motion.growth.abs() - _SURE * motion.growth_error - scatter[:, None]
    resized = grown[:, :groups].clamp(min=0) / stack.pixels

    # In place: the contrast that is left, times how alike the lines across the rim are.
    in_place = readings.match[..., readings.match.shape[-1] // 2]
    drawn = (readings.kept / _FULLY_KEPT).clamp(max=1) * (in_place / _FULL_MATCH).clamp(0, 1)
    outline = (own * drawn[:, None]).sum(-1) / total.clamp(min=1e-6)
    rich = (seen * readings.confidence[:, None]).sum(-1) > _LEAST_WINDOW
    warped = torch.where(rich, shift[:, groups:], 0.0)
    return Placement(judged, outline, shift[:, :groups], resized, warped, windows)


def _windows(stack: Stack) -> tuple[Tensor, Tensor]:
    """Centres of windows, and the weight of each piece in each of them, (B, W, M)."""
    height, width = stack.raw.shape[-2:]
    step, spread = _WINDOW_STEP * stack.pixels, _WINDOW * stack.pixels
    device = stack.raw.device
    # At least one window a side, however low the picture is.
    rows, columns = (
        torch.arange(step / 2, max(size, step / 2 + 1), step, device=device)
        for size in (height, width)
    )
    centres = torch.cartesian_prod(rows, columns).flip(-1)
    away = (centres[:, None] - stack.centre[:, None]).square().sum(-1)
    near = torch.exp(-away / (2 * spread**2)) * (away < (2 * spread) ** 2)
    return centres, near * (stack.count[:, None] > 0)


@final
@dataclass(frozen=True, eq=False)
class _Motion:
    """Fitted motion of each group, float32, (B, G), in pixels, with standard errors."""

    shift: Tensor
    shift_error: Tensor
    growth: Tensor
    growth_error: Tensor


def _fit(design: Tensor, readings: Readings, own: Tensor) -> _Motion:
    """Fit one motion to each group of pieces; 0 where rims match no better after it.

    Args:
        design: float32, (B, G, M, 3): what shift and growth do to each piece.
        readings: What was read.
        own: float32, (B, G, M): weight of each piece in each group.
    """
    observed = readings.displacement[:, None].expand_as(own)
    prior = own * readings.confidence[:, None]
    mean = own.sum(-1) / (own > 0).sum(-1).clamp(min=1)
    ridge = (0.02 * mean + 1e-3)[..., None, None] * torch.eye(3, device=own.device)
    weight = prior
    for _ in range(_ROUNDS):
        weighted = (design * weight[..., None]).transpose(-1, -2)
        inverse = torch.linalg.inv(weighted @ design + ridge)
        motion = (inverse @ (weighted @ observed[..., None]))[..., 0]
        expected = (design @ motion[..., None])[..., 0]
        used, weight = weight, prior / (1 + ((observed - expected) / _MISREAD) ** 2)

    # Standard errors from the scatter of the pieces about the common motion.
    total = used.sum(-1).clamp(min=1e-6)
    pieces = total**2 / used.square().sum(-1).clamp(min=1e-9)
    scatter = (used * (observed - expected).square()).sum(-1) / total
    variance = scatter * pieces / (pieces - 1.5).clamp(min=0.5) + _READING_ERROR**2
    spread = inverse.diagonal(dim1=-1, dim2=-2) * (total / pieces)[..., None]
    error = (variance[..., None] * spread).clamp(min=0).sqrt()
    length = motion[..., :2].norm(dim=-1)
    along = (motion[..., :2] / length.clamp(min=1e-6)[..., None] * error[..., :2]).norm(dim=-1)
    gain = _gain(readings.match, expected, own)
    grown = motion[..., 2]
    shift, growth = (
        torch.where(gain > _GAIN * size.abs().clamp(max=_FAR).square(), size, 0.0)
        for size in (length, grown)
    )
    # Matches are sampled a pixel apart: what a small growth gains falls between the samples.
    growth = torch.where(grown.abs() < 1, grown, growth)
    return _Motion(shift, along, growth, error[..., 2])


def _gain(match: Tensor, motion: Tensor, own: Tensor) -> Tensor:
    """Return how much better the rims of a group match after its motion, (B, G)."""
    reach = match.shape[-1] // 2
    groups = motion.shape[1]
    at = (motion + reach).clamp(0, 2 * reach - 1e-3)
    lower = at.long()
    expanded = match[:, None].expand(-1, groups, -1, -1)
    below, above = (expanded.gather(-1, (lower + i)[..., None])[..., 0] for i in (0, 1))
    moved = below + (above - below) * (at - lower)
    gain = moved - match[:, None, :, reach]
    return (own * gain).sum(-1) / own.sum(-1).clamp(min=1e-6)
