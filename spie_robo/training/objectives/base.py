"""The interface of objectives: a stream of small losses, one backward pass each.

The losses of all processes add up to the objective: gradients are summed over passes and over
processes, so that neither the batch size nor the number of processes changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

import torch
from torch import Tensor

from spie_robo.feedback.records import Feedback
from spie_robo.training.inputs import EpochInputs
from spie_robo.training.rollout import Rollout
from spie_robo.training.trained_editor import TrainedEditor

LossTerm: TypeAlias = tuple[Tensor, dict[str, float], float]
"""A loss to add up, its metrics, and its share of the whole."""


@final
@dataclass(frozen=True, eq=False)
class Epoch:
    """The data that an objective is computed from, in one process.

    Attributes:
        inputs: The n inputs.
        rollout: The edits of the inputs.
        feedback: Scores and ranking of these n inputs.
        groups: Number of scorable inputs over all processes.
        seed: Seed of the run.
        number: Number of the epoch, from 0 on.
    """

    inputs: EpochInputs
    rollout: Rollout
    feedback: Feedback
    groups: int
    seed: int
    number: int

    @property
    def scorable(self) -> list[int]:
        """Indices of the inputs whose edits could be ranked."""
        return torch.nonzero(self.feedback.scorable)[:, 0].tolist()


class Objective(Protocol):
    """Turn an epoch into losses."""

    @property
    def needs_log_probs(self) -> bool:
        """True if rollouts must record their steps."""
        ...

    def prepare(self, policy: TrainedEditor, epoch: Epoch) -> object:
        """Compute the values that all updates of the epoch are measured against."""
        ...

    def terms(self, policy: TrainedEditor, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """Yield the losses; the caller runs each backward pass before it asks for the next."""
        ...
