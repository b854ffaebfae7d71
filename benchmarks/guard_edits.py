"""Edits of known truth for the guard's calibration: harmless ones, and ones that change geometry.

Harmless: another light (gain, tint, gamma), a worse camera (blur, noise), new materials on every
surface. Harmful: one object moved, resized, removed, inserted, exchanged or melted, or the whole
picture shifted or bent. Lengths follow the picture's width, 128 pixels being the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

RGB: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Generator: TypeAlias = np.random.Generator
Floats: TypeAlias = NDArray[np.float32]

WARM, COLD = np.array([1.15, 1.0, 0.8]), np.array([0.8, 1.0, 1.15])


def to_rgb(values: NDArray[np.floating]) -> RGB:
    """Round and clip to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _gamma(x: Floats, exponent: float) -> Floats:
    return (255 * (np.clip(x, 0, 255) / 255) ** exponent).astype(np.float32)


def _blur(x: Floats, sigma: float) -> Floats:
    return cv2.GaussianBlur(x, (0, 0), max(sigma * x.shape[1] / 128, 0.05))


LIGHTS: Mapping[str, Callable[[Floats, Generator], NDArray[np.floating]]] = {
    "gain 0.6 to 1.4": lambda x, g: x * g.uniform(0.6, 1.4),
    "warm": lambda x, g: x * WARM ** g.uniform(0.3, 1.2),
    "cold": lambda x, g: x * COLD ** g.uniform(0.3, 1.2),
    "gamma 0.7 or 1.4": lambda x, g: _gamma(x, float(g.choice([0.7, 1.4]))),
    "blur 0.8 px": lambda x, _: _blur(x, 0.8),
    "noise 5": lambda x, g: x + g.normal(0, 5, x.shape),
    "mixed": lambda x, g: (
        _blur(
            _gamma(x * WARM ** g.uniform(-1, 1) * g.uniform(0.7, 1.2), g.uniform(0.7, 1.4)),
            g.uniform(0.2, 0.7),
        )
        + g.normal(0, g.uniform(0, 4), x.shape)
    ),
}
"""Changes of light and camera that move nothing."""


def relight(rgb: RGB, kind: str, generator: Generator) -> RGB:
    """Apply one of :data:`LIGHTS`."""
    return to_rgb(LIGHTS[kind](rgb.astype(np.float32), generator))


def _noise_map(height: int, width: int, generator: Generator, cells: int) -> Floats:
    total = np.zeros((height, width), np.float32)
    for octave in range(3):
        count = cells * 2**octave
        coarse = generator.standard_normal((count, count)).astype(np.float32)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        total += fine / 2**octave
    return (total / total.std()).astype(np.float32)


def _pattern(height: int, width: int, g: Generator) -> Floats:
    """A material of unit contrast: plain, wood, planks, speckles, fabric, plaster or tiles."""
    y, x = np.mgrid[:height, :width].astype(np.float32) * (128 / width)
    angle = g.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    pitch = g.uniform(10, 24)
    joints = (along % pitch) < 1
    makers: dict[str, Callable[[], NDArray[np.floating]]] = {
        "plain": lambda: np.zeros((height, width), np.float32),
        "wood": lambda: np.sin(along * g.uniform(0.5, 1.5) + 2 * _noise_map(height, width, g, 3)),
        "planks": lambda: (
            -2.5 * joints
            + 0.6 * np.sin((along // pitch) * 37.1)
            + 0.3 * _noise_map(height, width, g, 8)
        ),
        "speckles": lambda: _noise_map(height, width, g, 40),
        "fabric": lambda: np.sin(2 * along) * np.sin(2 * across),
        "plaster": lambda: _noise_map(height, width, g, 10),
        "tiles": lambda: (
            -2.0 * (joints | ((across % pitch) < 1)) + 0.2 * _noise_map(height, width, g, 10)
        ),
    }
    return makers[str(g.choice(list(makers)))]().astype(np.float32)


def restyle(rgb: RGB, surfaces: list[Mask], generator: Generator) -> RGB:
    """Give every surface a new material and the picture a new light and camera.

    Args:
        rgb: uint8, (H, W, 3).
        surfaces: Regions that get a material each; all else keeps its own.
        generator: Draws them.
    """
    height, width = rgb.shape[:2]
    x = rgb.astype(np.float32)
    grey = x.mean(axis=-1, keepdims=True)
    for mask in surfaces:
        base = generator.uniform(60, 220) + generator.normal(0, 18, 3)
        grain = _pattern(height, width, generator)[..., None] * np.array([1, 0.95, 0.85])
        shading = 0.6 * (grey - grey[mask].mean())
        new = base + shading + generator.uniform(4, 16) * grain
        x = np.where(mask[..., None], new, x)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = generator.uniform(0, 2 * np.pi)
    slope = (columns / width - 0.5) * np.cos(angle) + (rows / height - 0.5) * np.sin(angle)
    x = x * (1 + generator.uniform(0, 0.25) * slope)[..., None]
    x = _gamma(
        x * np.array([1.1, 1.0, 0.88]) ** generator.normal(0, 0.8), generator.uniform(0.8, 1.25)
    )
    x = _blur(x, generator.uniform(0.3, 0.6))
    return to_rgb(x + generator.normal(0, generator.uniform(0, 4), x.shape))


def _centre(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _moved(right: float, down: float) -> NDArray[np.float64]:
    return np.array([[1.0, 0.0, right], [0.0, 1.0, down]])


def filled(image: RGB, mask: Mask) -> RGB:
    """Take an object away and fill the hole from around it."""
    reach = 2 * round(2 * image.shape[1] / 128) + 1
    around = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    return cv2.inpaint(image, around, 3, cv2.INPAINT_NS)


def pasted(image: RGB, donor: RGB, mask: Mask, transform: NDArray[np.float64]) -> RGB:
    """Draw an object of ``donor`` over ``image``; colours are weighted before they are moved."""
    size = mask.shape[::-1]
    alpha = mask.astype(np.float32)[..., None]
    moved = cv2.warpAffine(donor.astype(np.float32) * alpha, transform, size)
    cover = cv2.warpAffine(alpha[..., 0], transform, size)[..., None]
    return to_rgb(moved + (1 - cover) * image)


def shifted(image: RGB, mask: Mask, pixels: float, generator: Generator) -> RGB:
    """Move an object in a random direction that keeps it in the picture where there is one."""
    best, chosen = -1.0, _moved(0, 0)
    for angle in generator.uniform(0, 2 * np.pi, 12):
        transform = _moved(pixels * np.cos(angle), pixels * np.sin(angle))
        left = float(cv2.warpAffine(mask.astype(np.float32), transform, mask.shape[::-1]).sum())
        if left > best:
            best, chosen = left, transform
        if left > 0.98 * mask.sum():
            break
    return pasted(filled(image, mask), image, mask, chosen)


def scaled(image: RGB, mask: Mask, factor: float) -> RGB:
    """Grow or shrink an object about its centre."""
    x, y = _centre(mask)
    transform = np.array([[factor, 0, (1 - factor) * x], [0, factor, (1 - factor) * y]])
    return pasted(filled(image, mask), image, mask, transform)


def swapped(image: RGB, first: Mask, second: Mask) -> RGB:
    """Draw two objects in each other's place."""
    (ax, ay), (bx, by) = _centre(first), _centre(second)
    empty = filled(filled(image, first), second)
    once = pasted(empty, image, first, _moved(bx - ax, by - ay))
    return pasted(once, image, second, _moved(ax - bx, ay - by))


def melted(image: RGB, mask: Mask, left: float = 0.1) -> RGB:
    """Blend an object into what lies behind it, leaving a tenth of it."""
    empty = filled(image, mask)
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    cover = np.maximum(cv2.GaussianBlur(grown.astype(np.float32), (0, 0), 0.7), grown)[..., None]
    return to_rgb((1 - cover) * image + cover * (left * image + (1 - left) * empty))


def inserted(image: RGB, mask: Mask, places: Mask, own_colour: bool, generator: Generator) -> RGB:
    """Draw a copy of an object somewhere, on request in the colour of what it is put on.

    Args:
        image: uint8, (H, W, 3).
        mask: bool, (H, W): the object.
        places: bool, (H, W): where its centre may be put.
        own_colour: Keep only the object's shading; a flat object is shaded as a box is.
        generator: Chooses the place.
    """
    x, y = _centre(mask)
    rows, columns = np.nonzero(places)
    chosen = int(generator.integers(len(rows)))
    row, column = int(rows[chosen]), int(columns[chosen])
    donor = image
    if own_colour:
        near = image[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5].reshape(-1, 3)
        grey = image[mask].mean(axis=-1)
        shading = np.clip(grey / max(grey.mean(), 1.0), 0.5, 1.6)
        if shading.std() < 0.06:
            height = np.nonzero(mask)[0]
            shading = np.where(height < np.quantile(height, 0.45), 1.1, 0.85)
        painted = image.astype(np.float32)
        # On black nothing can be seen in black, by nobody.
        painted[mask] = np.clip(np.median(near, axis=0), 25, 225) * shading[:, None]
        donor = to_rgb(painted)
    return pasted(image, donor, mask, _moved(column - x, row - y))


def frame_shifted(image: RGB, pixels: float, generator: Generator) -> RGB:
    """Move the whole picture in a random direction."""
    angle = generator.uniform(0, 2 * np.pi)
    transform = _moved(pixels * np.cos(angle), pixels * np.sin(angle))
    size = image.shape[1::-1]
    return cv2.warpAffine(image, transform, size, borderMode=cv2.BORDER_REFLECT_101)


def warped(image: RGB, pixels: float, generator: Generator) -> RGB:
    """Bend the whole picture smoothly, by ``pixels`` where it is bent most."""
    height, width = image.shape[:2]
    coarse = generator.standard_normal((2, 5, 5)).astype(np.float32)
    field = np.stack(
        [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )
    field *= pixels / np.hypot(*field).max()
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(
        image, columns + field[0], rows + field[1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
