"""Combine four branches of classifier-free guidance, skipping those without weight.

========== ============== ============ ===========================
branch     text           image latent visual prompt
========== ============== ============ ===========================
``UNCOND`` empty          zero         zero
``IMAGE``  empty          the frame's  zero
``STYLE``  empty          the frame's  computed with the empty text
``TEXT``   the instruction the frame's computed with the instruction
========== ============== ============ ===========================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from spie_robo.errors import ConfigError


class Branch(IntEnum):
    """The conditions of a prediction; each branch adds one to the branch before."""

    UNCOND = 0
    IMAGE = 1
    STYLE = 2
    TEXT = 3


@dataclass(frozen=True)
class Guidance:
    """The scales of the three conditions.

    SPIE's guidance (arXiv 2504.12833), with the prediction ``e`` of each branch::

        e = e_u + s_I (e_I - e_u) + s_S (e_IS - e_I) + s_T (e_IST - e_IS)

    which is the weighted sum::

        e = (1 - s_I) e_u + (s_I - s_S) e_I + (s_S - s_T) e_IS + s_T e_IST

    Without style weights ``e_IS = e_I``, and this is InstructPix2Pix's guidance for any ``s_S``.
    With all scales 1 only the last branch is left: one UNet pass instead of four.

    Attributes:
        image: ``s_I``; the paper uses 1.5.
        style: ``s_S``; the paper uses 3.0.
        text: ``s_T``; the paper uses 7.5.
    """

    image: float = 1.5
    style: float = 3.0
    text: float = 7.5

    def __post_init__(self) -> None:
        """Validate the scales."""
        for name in ("image", "style", "text"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ConfigError(f"guidance.{name}: expected a number >= 0, got {value}.")

    @property
    def weights(self) -> dict[Branch, float]:
        """Weight of each branch whose weight is not 0; they sum to 1."""
        weights = {
            Branch.UNCOND: 1 - self.image,
            Branch.IMAGE: self.image - self.style,
            Branch.STYLE: self.style - self.text,
            Branch.TEXT: self.text,
        }
        return {branch: weight for branch, weight in weights.items() if weight != 0}

    def combine(self, predictions: Tensor) -> Tensor:
        """Sum the weighted predictions of the branches.

        Args:
            predictions: (N B, C, h, w), the N branches of :attr:`weights`, in that order.

        Returns:
            (B, C, h, w).
        """
        weights = list(self.weights.values())
        if weights == [1.0]:
            return predictions
        # Use float32 or wider: large weights of opposite sign cancel and lose half precision.
        wide = torch.promote_types(predictions.dtype, torch.float32)
        factors = torch.tensor(weights, dtype=wide, device=predictions.device)
        branches = predictions.to(wide).reshape(len(weights), -1, *predictions.shape[1:])
        return (factors.view(-1, 1, 1, 1, 1) * branches).sum(dim=0).to(predictions.dtype)
