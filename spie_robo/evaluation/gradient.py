"""Measure sharpness: the share of a target's gradient magnitude that an image keeps."""

from __future__ import annotations

import cv2
import numpy as np

from spie_robo.errors import FrameError
from spie_robo.types import RGB


def gradient_magnitude(image: RGB) -> float:
    """Return the mean magnitude of the luminance gradient, by Scharr's operator.

    Args:
        image: uint8, (H, W, 3).

    Returns:
        Grey levels (0..255) per pixel.
    """
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    horizontal = cv2.Scharr(luminance, cv2.CV_32F, 1, 0) / 32.0
    vertical = cv2.Scharr(luminance, cv2.CV_32F, 0, 1) / 32.0
    return float(np.hypot(horizontal, vertical).mean())


def gradient_ratio(image: RGB, target: RGB) -> float:
    """Return the gradient magnitude of an image over that of its target.

    Args:
        image: uint8, (H, W, 3).
        target: uint8, (H, W, 3).

    Returns:
        1 for equal sharpness, below 1 for blur, above for noise; NaN for a flat target.

    Raises:
        FrameError: If the shapes differ.
    """
    if image.shape != target.shape:
        raise FrameError(f"Expected a target of shape {image.shape}, got {target.shape}.")
    expected = gradient_magnitude(target)
    return gradient_magnitude(image) / expected if expected > 0 else float("nan")
