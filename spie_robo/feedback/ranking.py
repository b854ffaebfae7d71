"""Turn scores into advantages and a ranking of the K edits of each input, by pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from spie_robo.feedback.records import Feedback, Scores


def rank(
    scores: Scores,
    *,
    structural_weight: float = 1.0,
    semantic_weight: float = 1.0,
    deviation_floor: float = 1e-6,
) -> Feedback:
    """Standardise the scores over the batch, add them up, and rank the edits of each input.

    The paper's advantage, with ``score_alpha = semantic_weight / structural_weight``:
    ``A = -(structural_weight * z_structural + semantic_weight * z_semantic)``.

    Args:
        scores: (N, K) each, of the whole batch, gathered over all processes.
        structural_weight: Weight of the structural z-score; 0 leaves it out.
        semantic_weight: Weight of the semantic z-score; 0 leaves it out.
        deviation_floor: Smallest standard deviation to divide by, in units of a score: where all
            edits score alike, their advantages are 0 instead of noise.

    Returns:
        The feedback. A group with a score that is not finite is unscorable: mean and deviation
        leave it out, its advantages are 0 and its ranking is 0, 1, ...
        Edits of equal advantage keep their order.
    """
    scorable = (scores.structural.isfinite() & scores.semantic.isfinite()).all(dim=1)
    structural_z, structural_deviation = z_scores(scores.structural, scorable, deviation_floor)
    semantic_z, semantic_deviation = z_scores(scores.semantic, scorable, deviation_floor)
    advantages = -(structural_weight * structural_z + semantic_weight * semantic_z)
    ranking = advantages.argsort(dim=1, descending=True, stable=True)
    return Feedback(
        scores,
        structural_z,
        semantic_z,
        advantages,
        ranking,
        scorable,
        structural_deviation,
        semantic_deviation,
    )


def z_scores(values: Tensor, scorable: Tensor, deviation_floor: float) -> tuple[Tensor, float]:
    """Return ``(value - mean) / max(deviation, floor)`` over all edits of the scorable groups.

    Args:
        values: float, (N, K).
        scorable: bool, (N,), the groups that count.
        deviation_floor: Smallest deviation to divide by, see :func:`rank`.

    Returns:
        float32, (N, K), 0 in groups that do not count; and the population's deviation.
    """
    z = torch.zeros(values.shape, dtype=torch.float32, device=values.device)
    if not scorable.any():
        return z, deviation_floor
    # In double precision the mean of equal scores is exact, so no rounding error is scaled up.
    counted = values[scorable].double()
    deviation = counted.std(correction=0).clamp(min=deviation_floor)
    z[scorable] = ((counted - counted.mean()) / deviation).float()
    return z, float(deviation)
