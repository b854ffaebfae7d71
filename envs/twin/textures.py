"""Procedural textures: a :class:`Material` and a size in, an sRGB image out."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.twin.style import Material, Pattern

Field = NDArray[np.float32]
"""float32 (height, width) in 0..1: how much of the accent colour is mixed in."""


def texture(material: Material, height: int = 384, width: int = 384) -> NDArray[np.float32]:
    """Paint a material.

    Args:
        material: What to paint; its seed decides every detail.
        height: Pixels.
        width: Pixels.

    Returns:
        float32 (height, width, 3), sRGB in 0..1.
    """
    rng = np.random.default_rng(material.seed)
    mix, shade = _PATTERNS[material.pattern](rng, height, width, material.scale)
    color = np.array(material.color, np.float32)
    accent = np.array(material.accent, np.float32)
    image = color + mix[..., None] * (accent - color)
    return np.asarray(np.clip(image * shade[..., None], 0, 1), np.float32)


def _noise(
    rng: np.random.Generator, height: int, width: int, cell_y: float, cell_x: float
) -> Field:
    """Smooth noise with features of about ``cell`` pixels, roughly standard normal."""
    rows, columns = max(2, round(height / cell_y)), max(2, round(width / cell_x))
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))


def _cloud(rng: np.random.Generator, height: int, width: int, cell: float) -> Field:
    """Several octaves of noise, roughly standard normal."""
    octaves = [_noise(rng, height, width, cell / 2**i, cell / 2**i) / 2**i for i in range(4)]
    return np.asarray(sum(octaves) / 1.15, np.float32)


def _plain(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    shade = 1 + 0.012 * _cloud(rng, height, width, 120 * scale)
    return np.zeros((height, width), np.float32), shade


def _wood(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    warp = _noise(rng, height, width, 140 * scale, 40 * scale)
    rings = np.linspace(0, 9 / scale, width, dtype=np.float32)[None] + 0.45 * warp
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    fibre = _noise(rng, height, width, 90 * scale, 2.2)
    mix = np.clip(0.55 * grain**2 + 0.22 * fibre + 0.1, 0, 1)
    return np.asarray(mix, np.float32), 1 + 0.03 * _cloud(rng, height, width, 150)


def _planks(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    mix, shade = _wood(rng, height, width, scale)
    plank, joint = max(12, round(42 * scale)), max(2, round(1.3 * scale))
    for left in range(0, width, plank):
        offset = int(rng.integers(0, height))
        length = int(rng.integers(height // 2, height))
        for top in range(offset - height, height, length):
            area = np.s_[max(top, 0) : max(top + length, 0), left : left + plank]
            shade[area] *= rng.uniform(0.82, 1.12)
            shade[max(top, 0) : max(top + joint, 0), left : left + plank] *= 0.6
        shade[:, left : left + joint] *= 0.6
    return mix, shade


def _speckled(
    rng: np.random.Generator, height: int, width: int, scale: float
) -> tuple[Field, Field]:
    fine = _noise(rng, height, width, 2.5 * scale, 2.5 * scale)
    coarse = _noise(rng, height, width, 7 * scale, 7 * scale)
    mix = np.clip(0.9 * (fine > 0.9) + 0.6 * (coarse > 1.1), 0, 1).astype(np.float32)
    return mix, 1 + 0.03 * _cloud(rng, height, width, 100)


def _fabric(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    weave = _noise(rng, height, width, 2.0, 9 * scale) + _noise(rng, height, width, 9 * scale, 2.0)
    return np.clip(0.4 + 0.25 * weave, 0, 1), np.ones((height, width), np.float32)


def _plaster(
    rng: np.random.Generator, height: int, width: int, scale: float
) -> tuple[Field, Field]:
    cloud = _cloud(rng, height, width, 60 * scale)
    return np.clip(0.3 + 0.3 * cloud, 0, 1), 1 + 0.015 * _noise(rng, height, width, 3, 3)


def _tiles(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    return _masonry(rng, height, width, round(48 * scale), round(48 * scale), stagger=False)


def _bricks(rng: np.random.Generator, height: int, width: int, scale: float) -> tuple[Field, Field]:
    return _masonry(rng, height, width, round(12 * scale), round(30 * scale), stagger=True)


def _masonry(
    rng: np.random.Generator, height: int, width: int, tall: int, wide: int, stagger: bool
) -> tuple[Field, Field]:
    tall, wide = max(tall, 6), max(wide, 6)
    rows = np.arange(height)[:, None] // tall
    shift = (rows % 2) * (wide // 2) if stagger else 0
    columns = (np.arange(width)[None] + shift) // wide
    joint = (np.arange(height)[:, None] % tall < 2) | ((np.arange(width)[None] + shift) % wide < 2)
    tone = rng.uniform(0.86, 1.12, (rows.max() + 1, columns.max() + 1)).astype(np.float32)
    shade = tone[rows, columns] * (1 + 0.02 * _noise(rng, height, width, 4, 4))
    return joint.astype(np.float32), np.where(joint, 1, shade).astype(np.float32)


_PATTERNS: dict[Pattern, Callable[[np.random.Generator, int, int, float], tuple[Field, Field]]] = {
    "plain": _plain,
    "wood": _wood,
    "planks": _planks,
    "speckled": _speckled,
    "fabric": _fabric,
    "plaster": _plaster,
    "tiles": _tiles,
    "bricks": _bricks,
}
