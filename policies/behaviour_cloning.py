"""Behaviour cloning: the chunk of actions that a demonstrator would do, by regression."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from spie_robo.policies.base import Policy, PolicySpec


@final
class BehaviourCloning(Policy):
    """Predicts a chunk of actions with a multilayer perceptron, trained on the L1 distance.

    Chunks as in Zhao et al., "Learning Fine-Grained Bimanual Manipulation" (RSS 2023), which also
    finds L1 to be more precise than L2.
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
        """Mean absolute difference of normalised actions."""
        loss = (self.predict(features, generator) - chunk).abs().mean()
        return loss, {"l1": float(loss.detach())}

    def predict(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Normalised actions, (B, H, A); nothing about them is random."""
        flat: Tensor = self.head(features)
        return flat.reshape(len(features), self.spec.horizon, self.spec.action_dim)
