"""What every objective of an epoch is: a stream of small losses, one backward pass each.

The losses of all processes add up to the objective, so that gradients are summed, over passes and
over processes, and neither the batch size nor the number of processes changes them.
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
"""A loss to be added, its metrics, and its share of the whole."""


@final
@dataclass(frozen=True, eq=False)
class Epoch:
    """What an objective is computed from, in one process.

    Attributes:
        inputs: n inputs.
        rollout: Their edits.
        feedback: Scores and ranking of these n inputs.
        groups: Number of scorable inputs over all processes.
        seed: The run's.
        number: The epoch's, from 0 on.
    """

    inputs: EpochInputs
    rollout: Rollout
    feedback: Feedback
    groups: int
    seed: int
    number: int

    @property
    def scorable(self) -> list[int]:
        """The inputs that count."""
        return torch.nonzero(self.feedback.scorable)[:, 0].tolist()


class Objective(Protocol):
    """Turns an epoch into losses."""

    @property
    def needs_log_probs(self) -> bool:
        """Whether rollouts must be recorded."""
        ...

    def prepare(self, policy: TrainedEditor, epoch: Epoch) -> object:
        """Compute, before any update, what all updates of the epoch are measured against."""
        ...

    def terms(self, policy: TrainedEditor, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """The losses; each must go through its backward pass before the next is asked for."""
        ...
