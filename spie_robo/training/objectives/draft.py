"""Follow the gradient of the scores through differentiable judges (DRaFT, arXiv 2309.17400).

This file holds settings, loss and objective of ``draft``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from spie_robo.editor.latents import decode_target
from spie_robo.editor.noise_prediction import denoiser
from spie_robo.editor.references import to_image
from spie_robo.editor.resolution import hold_detail
from spie_robo.editor.samplers import sample_with_gradient
from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.differentiable import DifferentiableFeedback
from spie_robo.training.objectives.base import Epoch, LossTerm
from spie_robo.training.rollout import Chain, condition_rows, starting_noise, step_generators
from spie_robo.training.trained_editor import TrainedEditor


@dataclass(frozen=True)
class DraftConfig:
    """Settings of the ``draft`` objective, :func:`draft_loss`.

    Attributes:
        pull: Weight of the squared distance to the reference policy's prediction.
    """

    pull: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.pull < math.inf:
            raise ConfigError(f"draft.pull: expected a finite number from 0 on, got {self.pull}.")


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
        semantic: float (B,), with gradients to the policy.
        predicted: v, (B, C, h, w), with gradients to the policy.
        reference: v_ref, the same shape; None if ``pull`` is 0.
        structural_weight: w_struct >= 0.
        semantic_weight: w_sem >= 0.
        deviations: d_struct and d_sem, > 0.
        pull: >= 0.

    Returns:
        The loss, a scalar, and metrics: ``structural_now`` and ``semantic_now``, the scores after
        the epoch's updates so far, and ``from_reference`` (root mean square of ``v - v_ref``).

    Raises:
        ConfigError: If shapes do not fit, or ``pull`` has no reference.
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


@final
@dataclass(frozen=True, eq=False)
class DraftObjective:
    """The DRaFT objective: gradients of the scores through judges, autoencoder and last step.

    The edits are those of the rollout, sampled again with a graph. Finishing an edit (adding the
    frame's own detail, rounding to bytes) has gradient 1: scores are those of the finished edit.

    Attributes:
        config: Settings of the objective.
        weights: Weights of the two scores.
        feedback: Differentiable scores.
        chain: Sampler of the rollouts.
        batch_size: Edits in one pass.
    """

    config: DraftConfig
    weights: FeedbackConfig
    feedback: DifferentiableFeedback
    chain: Chain
    batch_size: int
    needs_log_probs: bool = False

    def prepare(self, policy: TrainedEditor, epoch: Epoch) -> list[Tensor | None]:
        """Sample the reference policy's edits, for the pull."""
        if self.config.pull == 0:
            return [None for _ in self._batches(epoch)]
        with policy.reference():
            return [self._clean(policy, epoch, pairs) for pairs in self._batches(epoch)]

    def terms(self, policy: TrainedEditor, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """Yield one loss for each batch of edits."""
        assert isinstance(prepared, list)
        whole = epoch.groups * epoch.rollout.clean.shape[1]
        deviations = (epoch.feedback.structural_deviation, epoch.feedback.semantic_deviation)
        for pairs, reference in zip(self._batches(epoch), prepared, strict=True):
            clean = self._clean(policy, epoch, pairs)
            judged = [epoch.inputs.judged[i] for i, _ in pairs]
            scores = self.feedback.score(judged, self._finished(policy, epoch, pairs, clean))
            loss, metrics = draft_loss(
                *scores,
                clean,
                reference,
                structural_weight=self.weights.structural_weight,
                semantic_weight=self.weights.semantic_weight,
                deviations=deviations,
                pull=self.config.pull,
            )
            share = len(pairs) / whole
            yield share * loss, metrics, share

    def _batches(self, epoch: Epoch) -> Iterator[list[tuple[int, int]]]:
        edits = epoch.rollout.clean.shape[1]
        pairs = [(i, k) for i in epoch.scorable for k in range(edits)]
        for start in range(0, len(pairs), self.batch_size):
            yield pairs[start : start + self.batch_size]

    def _clean(
        self, policy: TrainedEditor, epoch: Epoch, pairs: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Sample ``x0`` of edits (B, C, h, w), with gradients through the last step."""
        drawn = {"seed": epoch.seed, "epoch": epoch.number}
        conditioning = condition_rows(policy.pipeline, epoch.inputs, [i for i, _ in pairs])
        denoise = denoiser(policy.pipeline.unet, conditioning, self.chain.guidance)
        noise = starting_noise(epoch.inputs, pairs, self.chain, **drawn)
        generators = step_generators(epoch.inputs, pairs, **drawn)
        return sample_with_gradient(denoise, self.chain.sampler, noise, generators)

    def _finished(
        self, policy: TrainedEditor, epoch: Epoch, pairs: Sequence[tuple[int, int]], clean: Tensor
    ) -> Tensor:
        """Finish edits, (B, 3, H, W), 0..255, with the gradients of the unfinished ones."""
        pipeline = policy.pipeline
        source = epoch.inputs.input_latents[[i for i, _ in pairs]]
        images = decode_target(pipeline.vae, clean, source, pipeline.latent_spec).float()
        finished = [
            hold_detail(to_image(image.detach()), epoch.inputs.judged[i].frame.rgb,
                        self.chain.frame_detail)
            for image, (i, _) in zip(images, pairs, strict=True)
        ]  # fmt: skip
        values = torch.from_numpy(np.stack(finished)).permute(0, 3, 1, 2).to(images)
        pixels = (images + 1) * 127.5
        return pixels + (values - pixels).detach()
