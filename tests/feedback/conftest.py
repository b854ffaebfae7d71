"""Inputs of flat colours, judges that read numbers off them, and tiny models in folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spie_robo.types import RGB, Frame, Geometry


class RedDepth:
    """Reads depth off the red channel, 0..255; remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[RGB] = []

    def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
        self.seen += images
        return [image[..., 0].astype(np.float32) for image in images]


class ColourPatches:
    """The mean colour of each 16x16 patch is its feature."""

    def __init__(self) -> None:
        self.seen: list[RGB] = []

    def patches(self, images: Sequence[RGB]) -> list[torch.Tensor]:
        self.seen += images
        grids = []
        for image in images:
            height, width = image.shape[0] // 16, image.shape[1] // 16
            blocks = image.reshape(height, 16, width, 16, 3).astype(np.float32)
            grids.append(torch.from_numpy(blocks.mean(axis=(1, 3))))
        return grids


def _noise(seed: int, height: int = 64, width: int = 64) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def red_depth() -> RedDepth:
    return RedDepth()


@pytest.fixture
def colour_patches() -> ColourPatches:
    return ColourPatches()


@pytest.fixture
def noise() -> Callable[..., RGB]:
    """``noise(seed, height, width)``: a uint8 image."""
    return _noise


@pytest.fixture
def scene() -> Frame:
    """64x64: a wall, a wooden table and a red cube, with depth and segmentation."""
    segmentation = np.zeros((64, 64), np.int32)
    segmentation[32:, :] = 1
    segmentation[40:56, 8:24] = 7
    depth = np.linspace(1.0, 3.0, 64 * 64, dtype=np.float32).reshape(64, 64)
    names = {0: "wall", 1: "wooden_table", 7: "red cube", 9: "robot arm"}
    return Frame(_noise(0), "front", Geometry(depth, segmentation, names))
