"""Clone behaviour by regression: predict the chunk of actions of a demonstrator."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from spie_robo.policies.base import Policy, PolicySpec


@final
class BehaviourCloning(Policy):
    """A multilayer perceptron that predicts a chunk of actions, trained on the L1 distance.

    Chunks are as in Zhao et al., "Learning Fine-Grained Bimanual Manipulation" (RSS 2023), which
    also finds L1 more precise than L2.
    """

    def __init__(self, spec: PolicySpec) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__(spec)
        self.head = nn.Sequential(
            nn.Linear(self.encoder.output_dim, spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, spec.horizon * spec.action_dim),
        )

    def chunk_loss(
        self, features: Tensor, chunk: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean absolute difference of normalised actions."""
        loss = (self.predict(features, generator) - chunk).abs().mean()
        return loss, {"l1": float(loss.detach())}

    def predict(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Predict normalised actions (B, H, A); nothing is random."""
        flat: Tensor = self.head(features)
        return flat.reshape(len(features), self.spec.horizon, self.spec.action_dim)
