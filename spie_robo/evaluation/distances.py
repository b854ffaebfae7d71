"""Measure the distance of an edit to its target picture, the path-traced twin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.errors import FrameError
from spie_robo.types import RGB
from spie_robo.vision.features import FeaturePyramid, encoder, images_to_tensor

_BATCH = 16


def psnr(image: RGB, target: RGB) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(255^2 / mean squared error).

    Args:
        image: uint8, (H, W, 3).
        target: uint8, (H, W, 3).

    Returns:
        In dB; infinite for equal images.

    Raises:
        FrameError: If the shapes differ.
    """
    _check_same_shape(image, target)
    error = float(np.mean((image.astype(np.float64) - target.astype(np.float64)) ** 2))
    return 10.0 * math.log10(255.0**2 / error) if error > 0 else math.inf


def perceptual_distance(
    images: Sequence[RGB], targets: Sequence[RGB], device: str = "cpu"
) -> NDArray[np.float32]:
    """Compute a distance like LPIPS on features of EfficientNet-Lite0.

    At each stride l the features of every position are scaled to unit length over channels, and
    ``d = mean_l mean_hw || f_l(image) - f_l(target) ||^2`` (Zhang et al., "The unreasonable
    effectiveness of deep features as a perceptual metric", CVPR 2018, without learned weights).

    Args:
        images: uint8, (H, W, 3) each, all of one size from 32x32 on.
        targets: One target an image, of the same size.
        device: Device of the encoder.

    Returns:
        float32, (N,): 0 for equal images, at most 4.

    Raises:
        FrameError: If numbers or shapes differ.
    """
    if len(images) != len(targets):
        raise FrameError(f"Expected one target an image: {len(images)}, {len(targets)}.")
    for image, target in zip(images, targets, strict=True):
        _check_same_shape(image, target)
    distances = []
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        first = encoder(device)(images_to_tensor(images[part], device))
        second = encoder(device)(images_to_tensor(targets[part], device))
        distances.append(_pyramid_distance(first, second))
    return cast("NDArray[np.float32]", torch.cat(distances).cpu().numpy())


def _pyramid_distance(first: FeaturePyramid, second: FeaturePyramid) -> Tensor:
    levels = []
    for a, b in zip(first, second, strict=True):
        unit_a = torch.nn.functional.normalize(a, dim=1)
        unit_b = torch.nn.functional.normalize(b, dim=1)
        levels.append((unit_a - unit_b).square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(levels).mean(dim=0)


def _check_same_shape(image: RGB, target: RGB) -> None:
    if image.shape != target.shape:
        raise FrameError(f"Expected a target of shape {image.shape}, got {target.shape}.")
