"""Scale numbers to -1..1 for networks, and back."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST_RANGE = 1e-4
"""Numbers with a smaller range in the data count as constant."""


@final
class Normalizer(nn.Module):
    """A scaling of each number's range in the training data to -1..1, part of the weights.

    A number that is constant in the data becomes 0, and back that constant, whatever the network
    predicts.

    Args:
        size: Number of values in a vector.
    """

    centre: Tensor
    half_range: Tensor

    def __init__(self, size: int) -> None:
        """Start as the identity; :meth:`fit` sets the ranges."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("half_range", torch.ones(size))

    def fit(self, values: NDArray[np.float32]) -> None:
        """Set the ranges from ``values``, float32, (steps, size), one step or more."""
        low, high = values.min(axis=0), values.max(axis=0)
        half = np.where(high - low < SMALLEST_RANGE, 0.0, (high - low) / 2)
        self.centre.copy_(torch.from_numpy((low + high) / 2))
        self.half_range.copy_(torch.from_numpy(half.astype(np.float32)))

    def normalize(self, values: Tensor) -> Tensor:
        """Scale (..., size) to -1..1 for values in the range of the data; constants become 0."""
        constant = self.half_range == 0
        scaled = (values - self.centre) / self.half_range.masked_fill(constant, 1.0)
        return scaled.masked_fill(constant, 0.0)

    def unnormalize(self, values: Tensor) -> Tensor:
        """Invert :meth:`normalize`, (..., size)."""
        return values * self.half_range + self.centre
