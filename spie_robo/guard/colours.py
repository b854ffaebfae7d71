"""Colours that say which object is which, compared without regard to the light."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.guard.stack import Stack
from spie_robo.types import RGB

_DISTINCT: Final = 40.0
"""Difference of two colours that tells objects apart, in grey levels."""
_STILL_DISTINCT: Final = 0.35


def swapped(stack: Stack, edits: Tensor) -> Tensor:
    """Measure how far two objects of distinct colours have exchanged them.

    From one object to another, colour changes by a vector in the plane of red minus green and
    yellow minus blue. A tint moves both ends, another lamp stretches it; an exchange reverses it.

    Args:
        stack: What the edits are held to.
        edits: float32, (B, 3, H, W), 0..255.

    Returns:
        float32, (B, G, G): minus the cosine between the vectors of raw frame and edit, -1 to 1; NaN
        where two colours are not distinct in both.
    """
    before, after = (_differences(stack, images) for images in (stack.raw, edits))
    lengths = before.norm(dim=-1), after.norm(dim=-1)
    opposite = -(before * after).sum(-1) / (lengths[0] * lengths[1]).clamp(min=1e-6)
    told = (lengths[0] > _DISTINCT) & (lengths[1] > _STILL_DISTINCT * lengths[0])
    return torch.where(told, opposite, torch.nan)


def _differences(stack: Stack, images: Tensor) -> Tensor:
    """Colour of each object less that of each other one, (B, G, G, 2); NaN for the robot."""
    groups = stack.radius.shape[1]
    covered = images.flatten(2).gather(2, stack.inside[:, None].expand(-1, 3, -1))
    red, green, blue = covered.unbind(1)
    colour = torch.stack([red - green, 0.5 * (red + green) - blue, torch.ones_like(red)], dim=-1)
    owner = stack.inside_of[..., None].expand_as(colour)
    total = colour.new_zeros(len(images), groups + 1, 3).scatter_add(1, owner, colour)[:, :groups]
    mean = total[..., :2] / total[..., 2:]  # nothing over nothing: NaN
    return mean[:, :, None] - mean[:, None]


def chroma_drift(raw: RGB, edit: RGB, mask: NDArray[np.bool_]) -> float:
    """Distance of the mean colours of two images inside a mask, in CIELAB's a*b* plane.

    Lightness is left out: another lamp may make a red cube darker, not green.

    Args:
        raw: uint8, (H, W, 3), sRGB.
        edit: uint8, (H, W, 3), sRGB.
        mask: bool, (H, W).

    Returns:
        0 or more (about 2 is just visible); NaN where the mask is empty.
    """
    if not mask.any():
        return float("nan")
    rows, columns = np.nonzero(mask)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    means = []
    for image in (raw, edit):
        lab = cv2.cvtColor(image[crop].astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        means.append(lab[mask[crop]][:, 1:].mean(axis=0))
    return float(np.linalg.norm(means[0] - means[1]))
