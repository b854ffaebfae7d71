"""The reward's own gradient, for judges that can be differentiated (DRaFT, arXiv 2309.17400)."""

from __future__ import annotations

from torch import Tensor

from spie_robo.errors import ConfigError


def draft_loss(
    structural: Tensor,
    semantic: Tensor,
    predicted: Tensor,
    reference: Tensor | None,
    *,
    structural_weight: float,
    semantic_weight: float,
    deviations: tuple[float, float],
    pull: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """Follow the gradient of SPIE's advantage through the last denoising step.

    Symbols: ``s`` an edit's structural and semantic score, lower is better; ``d`` their deviations
    over the epoch's edits, as in the z-scores of the advantage, without gradient; ``w`` their
    weights; ``v`` and ``v_ref`` the edit's ``x0`` as the policy in training and the reference
    policy predict it in the last step. ::

        1.  -A   = w_struct s_struct / d_struct + w_sem s_sem / d_sem     (up to a constant)
        2.  loss = -A + pull mean (v - v_ref)^2                           mean over edits

    Args:
        structural: float (B,), with gradients to the policy.
        semantic: float (B,), likewise.
        predicted: v, (B, C, h, w), likewise.
        reference: v_ref, the same shape; None if ``pull`` is 0.
        structural_weight: w_struct >= 0.
        semantic_weight: w_sem >= 0.
        deviations: d_struct and d_sem, > 0.
        pull: >= 0.

    Returns:
        The loss, a scalar, and metrics: ``structural_now`` and ``semantic_now``, the scores after
        the epoch's updates so far, and ``from_reference`` (root mean square of ``v - v_ref``).

    Raises:
        ConfigError: For shapes that do not fit, or a pull without reference.
    """
    if structural.shape != semantic.shape or structural.shape != predicted.shape[:1]:
        raise ConfigError(
            "structural, semantic: expected one shape (B,), predicted (B, C, h, w); got "
            f"{tuple(structural.shape)}, {tuple(semantic.shape)}, {tuple(predicted.shape)}."
        )
    if pull > 0 and reference is None:
        raise ConfigError("pull: expected the reference policy's prediction, got none.")
    # 1. the advantage, less its constant
    structural_deviation, semantic_deviation = deviations
    loss = structural_weight * structural.mean() / structural_deviation
    loss = loss + semantic_weight * semantic.mean() / semantic_deviation
    metrics = {
        "structural_now": float(structural.detach().mean()),
        "semantic_now": float(semantic.detach().mean()),
    }
    # 2. the pull
    if reference is not None:
        distance = (predicted - reference.detach()).square().mean()
        loss = loss + pull * distance
        metrics["from_reference"] = float(distance.detach().sqrt())
    return loss, metrics
