"""SPIE's objective: D3PO's, as a Plackett-Luce ranking of K edits (arXiv 2504.12833)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spie_robo.errors import ConfigError


def preference_loss(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    ranking: Tensor,
    *,
    beta: float,
    eps: float,
) -> tuple[Tensor, dict[str, float]]:
    """Make the better edits of each input likelier than the worse ones.

    Symbols: ``N`` inputs, ``K`` edits of each, ``S`` denoising steps; ``pi`` the policy in
    training, ``ref`` the reference policy, ``a`` a denoising step that was taken. With the edits of
    an input in rank order, best first::

        1.  r_i  = exp(clip(log pi(a_i) - log ref(a_i), log(1 - eps), log(1 + eps)))
        2.  p_i  = r_i^beta / sum_{j >= i} r_j^beta       the chance that i wins what is left
        3.  loss = - sum_i log p_i                        mean over steps and inputs

    For K = 2 this is D3PO's pairwise loss ``- log sigmoid(beta (log r_1 - log r_2))``.

    Args:
        log_probs: float (N, K, S), of the policy; carries the gradient.
        reference_log_probs: float (N, K, S).
        ranking: int64 (N, K), each row a permutation of 0..K-1, best edit first.
        beta: > 0.
        eps: 0 < eps < 1.

    Returns:
        The loss, a scalar, and metrics: ``ratio`` (mean r), ``clipped`` (share of clipped ratios),
        ``accuracy`` (share of pairs, best against worst, that the policy already ranks rightly).

    Raises:
        ConfigError: For shapes that do not fit, or beta and eps out of range.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(1, 2, 3)
        >>> loss, metrics = preference_loss(zeros, zeros, torch.tensor([[1, 0]]), beta=0.1, eps=0.1)
        >>> round(float(loss), 4), metrics["ratio"]
        (0.6931, 1.0)
    """
    _check(log_probs, reference_log_probs, ranking, beta, eps)
    order = ranking[:, :, None].expand_as(log_probs)
    # 1. clipped ratios, in rank order
    log_ratios = (log_probs - reference_log_probs).gather(1, order)
    clipped = log_ratios.clamp(math.log1p(-eps), math.log1p(eps))
    # 2. log p_i; the last of a ranking wins for sure, so that its term is 0
    scores = beta * clipped
    remaining = scores.flip(1).logcumsumexp(dim=1).flip(1)
    # 3. sum over ranks, mean over steps and inputs
    loss = (remaining - scores).sum(dim=1).mean()
    with torch.no_grad():
        metrics = {
            "ratio": float(clipped.exp().mean()),
            "clipped": float((clipped != log_ratios).float().mean()),
            "accuracy": float((log_ratios[:, 0] > log_ratios[:, -1]).float().mean()),
        }
    return loss, metrics


def _check(
    log_probs: Tensor, reference_log_probs: Tensor, ranking: Tensor, beta: float, eps: float
) -> None:
    if log_probs.ndim != 3 or log_probs.shape != reference_log_probs.shape:
        raise ConfigError(
            "log_probs and reference_log_probs: expected one shape (inputs, K, steps), got "
            f"{tuple(log_probs.shape)} and {tuple(reference_log_probs.shape)}."
        )
    if ranking.shape != log_probs.shape[:2]:
        raise ConfigError(
            f"ranking: expected shape {tuple(log_probs.shape[:2])}, got {tuple(ranking.shape)}."
        )
    ranks = torch.arange(ranking.shape[1], device=ranking.device)
    if not torch.equal(ranking.sort(dim=1).values, ranks.expand_as(ranking)):
        raise ConfigError("ranking: expected a permutation of 0..K-1 in each row, best first.")
    if not beta > 0 or not 0 < eps < 1:  # NaN is neither
        raise ConfigError(f"expected beta > 0 and 0 < eps < 1, got {beta} and {eps}.")
