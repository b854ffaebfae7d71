"""Train with SPIE's objective: D3PO as a Plackett-Luce ranking of K edits (arXiv 2504.12833).

This file holds settings, loss and objective of ``spie``, which learns from rankings of recorded
denoising steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from spie_robo.editor.noise_prediction import denoiser
from spie_robo.editor.samplers import step_log_prob
from spie_robo.errors import ConfigError
from spie_robo.training.objectives.base import Epoch, LossTerm
from spie_robo.training.rollout import Chain, condition_rows, seeded
from spie_robo.training.trained_editor import TrainedEditor


@dataclass(frozen=True)
class PreferenceConfig:
    """Settings of the ``spie`` objective, :func:`preference_loss`.

    Attributes:
        beta: Strength of the pull to the reference policy; the paper's beta.
        eps: The ratio to the reference policy is clipped to 1 - eps .. 1 + eps.
        step_share: Share of the denoising steps that an epoch trains on.
    """

    beta: float = 0.1
    eps: float = 0.1
    step_share: float = 1.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (self.beta > 0 and 0 < self.eps < 1 and 0 < self.step_share <= 1):
            raise ConfigError(
                "preference: expected beta > 0, 0 < eps < 1, 0 < step_share <= 1; got "
                f"{self.beta}, {self.eps}, {self.step_share}."
            )


def preference_loss(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    ranking: Tensor,
    *,
    beta: float,
    eps: float,
) -> tuple[Tensor, dict[str, float]]:
    """Compute the loss that makes better edits likelier than worse ones.

    Symbols: ``N`` inputs, ``K`` edits of each, ``S`` denoising steps; ``pi`` the policy in
    training, ``ref`` the reference policy, ``a`` a denoising step that was taken. With the edits of
    an input in rank order, best first::

        1.  r_i  = exp(clip(log pi(a_i) - log ref(a_i), log(1 - eps), log(1 + eps)))
        2.  p_i  = r_i^beta / sum_{j >= i} r_j^beta       the chance that i wins what is left
        3.  loss = - sum_i log p_i                        mean over steps and inputs

    For K = 2 this is D3PO's pairwise loss ``- log sigmoid(beta (log r_1 - log r_2))``.

    Args:
        log_probs: float (N, K, S), under the policy; carries the gradient.
        reference_log_probs: float (N, K, S), under the reference policy.
        ranking: int64 (N, K), each row a permutation of 0..K-1, best edit first.
        beta: Strength of the pull to the reference, > 0.
        eps: Clipping of the ratios, 0 < eps < 1.

    Returns:
        The loss, a scalar, and metrics: ``ratio`` (mean r), ``clipped`` (share of clipped ratios),
        ``accuracy`` (share of pairs, best against worst, that the policy already ranks rightly).

    Raises:
        ConfigError: If shapes do not fit, or beta or eps is out of range.

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
    # 2. log p_i; the term of the last edit is 0, because its chance is 1
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


@final
@dataclass(frozen=True, eq=False)
class PreferenceObjective:
    """The SPIE objective: a ranking makes recorded steps likelier or less likely.

    Attributes:
        config: Settings of the objective.
        chain: Sampler of the rollouts.
        batch_size: Edits in one pass.
    """

    config: PreferenceConfig
    chain: Chain
    batch_size: int
    needs_log_probs: bool = True

    def prepare(self, policy: TrainedEditor, epoch: Epoch) -> None:
        """Do nothing: the rollout holds the reference policy's log-probabilities."""

    def terms(self, policy: TrainedEditor, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """Yield one loss for each group of inputs and each denoising step."""
        steps = self._steps(epoch)
        edits = epoch.rollout.clean.shape[1]
        size = max(1, self.batch_size // edits)
        scorable = epoch.scorable
        for start in range(0, len(scorable), size):
            chosen = scorable[start : start + size]
            for step in steps:
                share = len(chosen) / (epoch.groups * len(steps))
                loss, metrics = self._loss(policy, epoch, chosen, step)
                yield share * loss, metrics, share

    def _steps(self, epoch: Epoch) -> list[int]:
        total = self.chain.sampler.steps - 1
        count = max(1, round(self.config.step_share * total))
        order = torch.randperm(total, generator=seeded(epoch.seed, epoch.number, 2))
        return sorted(order[:count].tolist())

    def _loss(
        self, policy: TrainedEditor, epoch: Epoch, chosen: list[int], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        rollout = epoch.rollout
        assert rollout.latents is not None and rollout.reference_log_probs is not None
        edits = rollout.clean.shape[1]
        rows = [i for i in chosen for _ in range(edits)]
        conditioning = condition_rows(policy.pipeline, epoch.inputs, rows)
        denoise = denoiser(policy.pipeline.unet, conditioning, self.chain.guidance)
        chains = rollout.latents[chosen].flatten(0, 1)
        log_probs = step_log_prob(
            denoise, self.chain.sampler, chains[:, step], chains[:, step + 1], step
        )
        return preference_loss(
            log_probs.view(len(chosen), edits, 1),
            rollout.reference_log_probs[chosen][:, :, step : step + 1],
            epoch.feedback.ranking[chosen].to(log_probs.device),
            beta=self.config.beta,
            eps=self.config.eps,
        )
