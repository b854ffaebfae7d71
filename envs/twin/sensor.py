"""From scene radiance to a photo: the last stage of the twin, in NumPy."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.twin.style import Sensor
from spie_robo.types import RGB

_MID_GREY = 0.25
"""Linear light that an automatic exposure aims at: more than a grey card's, as labs are bright."""


def srgb_to_linear(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo the sRGB transfer curve (IEC 61966-2-1); any shape, 0..1."""
    low = color / 12.92
    high = ((np.maximum(color, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(color <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the sRGB transfer curve (IEC 61966-2-1); any shape, 0..1."""
    low = color * 12.92
    high = 1.055 * np.maximum(color, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(color <= 0.0031308, low, high).astype(np.float32)


def expose(radiance: NDArray[np.float32], sensor: Sensor, seed: int | None = None) -> RGB:
    """Take the picture.

    Args:
        radiance: float32 (height, width, 3), linear; 1 is a white sheet on the table.
        sensor: The camera.
        seed: Seed of the sensor noise; None leaves the noise out.

    Returns:
        uint8 (height, width, 3), sRGB.
    """
    height, width = radiance.shape[:2]
    linear = radiance * (2.0**sensor.exposure * np.array(sensor.white_balance, np.float32))
    linear = linear * _vignette(height, width, sensor.vignette)[..., None]
    if sensor.blur > 0:
        linear = cv2.GaussianBlur(linear, (0, 0), sensor.blur * height / 128)
    image = linear_to_srgb(_shoulder(linear))
    image = np.clip(0.5 + (image - 0.5) * sensor.contrast, 0, 1)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * sensor.saturation
    if seed is not None and sensor.noise > 0:
        image = image + sensor_noise(image, sensor.noise, seed)
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)


def metered_gain(radiance: NDArray[np.float32], strength: float = 0.7) -> float:
    """Return what an automatic exposure multiplies the light by.

    Args:
        radiance: float32 (height, width, 3), linear.
        strength: 0 leaves the light alone, 1 brings its logarithmic mean to mid-grey exactly.

    Returns:
        A gain between 1/4 and 4.
    """
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    mean = float(np.exp(np.mean(np.log(np.maximum(luminance, 1e-3)))))
    return float(np.clip((_MID_GREY / mean) ** strength, 0.25, 4.0))


def sensor_noise(image: NDArray[np.float32], strength: float, seed: int) -> NDArray[np.float32]:
    """Signal-dependent noise, strongest in mid-tones, for an sRGB image in 0..1."""
    rng = np.random.default_rng(seed)
    level = strength * (0.5 + 0.5 * np.sqrt(np.clip(image, 0, 1)))
    return (level * rng.standard_normal(image.shape)).astype(np.float32)


def _shoulder(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compress highlights above 0.7 smoothly towards 1, as cameras do."""
    knee = 0.7
    over = np.maximum(linear - knee, 0)
    return np.where(linear <= knee, linear, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))))


def _vignette(height: int, width: int, amount: float) -> NDArray[np.float32]:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return np.asarray(1 - amount * (x**2 + y**2) / 2, np.float32)
