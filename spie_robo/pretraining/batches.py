"""Training batches of the denoiser: rendered pairs, augmented on the fly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.pretraining.images import add_noise, to_unit
from spie_robo.pretraining.pairs import PairArrays


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B scenes with their targets and references; images (B, 3, H, W) in [-1, 1].

    Attributes:
        inputs: The simulator's frames.
        targets: The same scenes in their styles, free of sensor noise.
        references: Other scenes of the same styles, cropped, mirrored and noisy.
        rows: int64 (B,), which pairs they are.
    """

    inputs: Tensor
    targets: Tensor
    references: Tensor
    rows: Tensor


class PairSampler:
    """Draws batches from rendered pairs.

    Args:
        pairs: Arrays of :mod:`spie_robo.pretraining.pairs`.
        scenes_per_style: Styles are contiguous blocks of this many rows.
    """

    def __init__(self, pairs: PairArrays, scenes_per_style: int) -> None:
        """Keep the images, without copying them."""
        self._simulator = torch.from_numpy(pairs["simulator_rgb"])
        self._twin = torch.from_numpy(pairs["twin_rgb"])
        self._scenes_per_style = scenes_per_style

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._simulator)

    def sample(self, count: int, generator: torch.Generator) -> PairBatch:
        """Draw a batch; everything about it comes from the generator."""
        rows = torch.randint(len(self), (count,), generator=generator)
        inputs = to_unit(self._simulator[rows])
        targets = to_unit(self._twin[rows])
        references = to_unit(self._twin[self._partners(rows, generator)])
        mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        inputs = torch.where(mirrored, inputs.flip(-1), inputs)
        targets = torch.where(mirrored, targets.flip(-1), targets)
        # The same colour shift on both, or the reference would lie about the target.
        gain, offset = draw_color_shift(count, generator)
        targets = (targets * gain + offset).clamp(-1, 1)
        references = (references * gain + offset).clamp(-1, 1)
        references = add_noise(random_zoom(references, generator), 0.03, generator, share=0.7)
        inputs = add_noise(inputs, 0.01, generator, share=0.3)
        return PairBatch(inputs, targets, references, rows)

    def _partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """For each row another one of its style."""
        size = self._scenes_per_style
        shift = torch.randint(1, size, (len(rows),), generator=generator)
        return rows - rows % size + (rows % size + shift) % size


def draw_color_shift(
    count: int, generator: torch.Generator, strength: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Per image a gain of each channel, (count, 3, 1, 1), and an offset, (count, 1, 1, 1)."""
    common = 1 + strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    channels = 1 + strength / 2 * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    offset = strength / 2 * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    return common * channels, offset


def random_zoom(images: Tensor, generator: torch.Generator, smallest: float = 0.6) -> Tensor:
    """A random crop of each image, half of them mirrored, brought back to the full size.

    Args:
        images: (B, 3, H, W).
        generator: Source of randomness.
        smallest: Smallest edge of a crop, as a share of the image's.

    Returns:
        (B, 3, H, W).
    """
    count = len(images)
    share = smallest + (1 - smallest) * torch.rand(count, generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    centre = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - share)[:, None]
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0], transform[:, 1, 1] = share * mirror, share
    transform[:, :, 2] = centre
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
