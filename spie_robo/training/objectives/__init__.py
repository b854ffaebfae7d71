"""The objectives of post-training: one file each, with its settings, its loss and its objective.

Adding one is a file here, a line of :data:`OBJECTIVES` and a field of
:class:`~spie_robo.training.config.TrainConfig` for its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from spie_robo.feedback.differentiable import DifferentiableFeedback
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.training.objectives.base import Epoch, LossTerm, Objective
from spie_robo.training.objectives.draft import DraftObjective
from spie_robo.training.objectives.nft import NftObjective
from spie_robo.training.objectives.spie import PreferenceObjective
from spie_robo.training.rollout import Chain

if TYPE_CHECKING:
    from spie_robo.training.config import TrainConfig

__all__ = ["OBJECTIVES", "Epoch", "LossTerm", "Objective", "build_objective"]

BuildObjective: TypeAlias = "Callable[[TrainConfig, Chain, FeedbackModel], Objective]"

OBJECTIVES: Mapping[str, BuildObjective] = {
    "spie": lambda config, chain, feedback: PreferenceObjective(
        config.preference, chain, config.optimizer.batch_size
    ),
    "nft": lambda config, chain, feedback: NftObjective(
        config.nft, config.optimizer.batch_size, config.optimizer.updates
    ),
    "draft": lambda config, chain, feedback: DraftObjective(
        config.draft,
        config.feedback,
        DifferentiableFeedback(feedback),
        chain,
        config.optimizer.batch_size,
    ),
}
"""How each objective is built, by the name that ``--objective`` takes."""


def build_objective(config: TrainConfig, chain: Chain, feedback: FeedbackModel) -> Objective:
    """Build the objective that the settings name.

    Raises:
        ConfigError: If it needs gradients that a judge does not give.
    """
    return OBJECTIVES[config.objective](config, chain, feedback)
