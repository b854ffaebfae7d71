"""The objectives of an epoch, as streams of small losses: one backward pass each.

The losses of all processes add up to the objective, so that gradients are summed, over passes and
over processes, and neither the batch size nor the number of processes changes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.latents import decode_target
from spie_robo.editor.noise_prediction import denoiser, predict_noise
from spie_robo.editor.references import to_image
from spie_robo.editor.resolution import hold_detail
from spie_robo.editor.samplers import draw_noise, sample_with_gradient, step_log_prob
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.differentiable import DifferentiableFeedback
from spie_robo.feedback.records import Feedback
from spie_robo.training.config import DraftConfig, NftConfig, PreferenceConfig
from spie_robo.training.draft import draft_loss
from spie_robo.training.forward_process import noised, predicted_clean
from spie_robo.training.inputs import EpochInputs
from spie_robo.training.nft import nft_loss
from spie_robo.training.preference import preference_loss
from spie_robo.training.rollout import (
    Chain,
    Rollout,
    condition_rows,
    seeded,
    starting_noise,
    step_generators,
)
from spie_robo.training.trained_editor import Policy

LossTerm: TypeAlias = tuple[Tensor, dict[str, float], float]
"""A loss to be added, its metrics, and its share of the whole."""

_NO_GUIDANCE = Guidance(1.0, 1.0, 1.0)


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

    def prepare(self, policy: Policy, epoch: Epoch) -> object:
        """Compute, before any update, what all updates of the epoch are measured against."""
        ...

    def terms(self, policy: Policy, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """The losses; each must go through its backward pass before the next is asked for."""
        ...


@final
@dataclass(frozen=True, eq=False)
class PreferenceObjective:
    """SPIE: the ranking makes recorded steps likelier or less likely.

    Attributes:
        config: beta, eps, share of steps.
        chain: The one that the rollouts were sampled with.
        batch_size: Edits in one pass.
    """

    config: PreferenceConfig
    chain: Chain
    batch_size: int
    needs_log_probs: bool = True

    def prepare(self, policy: Policy, epoch: Epoch) -> None:
        """Nothing: the rollout holds the reference policy's log-probabilities."""

    def terms(self, policy: Policy, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """One loss for each group of inputs and each denoising step."""
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
        self, policy: Policy, epoch: Epoch, chosen: list[int], step: int
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


@final
@dataclass(frozen=True, eq=False)
class NftObjective:
    """DiffusionNFT: edits are noised anew, and the prediction is drawn to the good ones.

    Attributes:
        config: beta, advantages, noise levels.
        batch_size: Edits in one pass.
        updates: With one update the old policy is the policy itself, and costs no pass of its own.
    """

    config: NftConfig
    batch_size: int
    updates: int
    needs_log_probs: bool = False

    def prepare(self, policy: Policy, epoch: Epoch) -> list[tuple[Tensor | None, Tensor | None]]:
        """Predictions of the old and of the reference policy, for each batch where needed."""
        prepared = []
        for rows, draw in self._batches(epoch):
            old = reference = None
            if self.updates > 1:
                with torch.no_grad():
                    old = self._predict(policy, epoch, rows, draw)[1]
            if self.config.pull > 0:
                with policy.reference():
                    reference = self._predict(policy, epoch, rows, draw)[1]
            prepared.append((old, reference))
        return prepared

    def terms(self, policy: Policy, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """One loss for each batch of edits and each draw of a noise level."""
        assert isinstance(prepared, list)
        edits, config = epoch.rollout.clean.shape[1], self.config
        whole = epoch.groups * edits * config.draws
        for (rows, draw), (old, reference) in zip(self._batches(epoch), prepared, strict=True):
            clean, predicted = self._predict(policy, epoch, rows, draw)
            advantages = torch.stack([epoch.feedback.advantages[i, k] for i, k in rows])
            loss, metrics = nft_loss(
                clean,
                predicted,
                predicted if old is None else old,
                reference,
                advantages.to(clean),
                beta=config.beta,
                advantage_max=config.advantage_max,
                pull=config.pull,
                adaptive=config.adaptive,
            )
            share = len(rows) / whole
            yield share * loss, metrics, share

    def _batches(self, epoch: Epoch) -> Iterator[tuple[list[tuple[int, int]], int]]:
        edits = epoch.rollout.clean.shape[1]
        pairs = [(i, k) for i in epoch.scorable for k in range(edits)]
        for draw in range(self.config.draws):
            for start in range(0, len(pairs), self.batch_size):
                yield pairs[start : start + self.batch_size], draw

    def _predict(
        self, policy: Policy, epoch: Epoch, rows: Sequence[tuple[int, int]], draw: int
    ) -> tuple[Tensor, Tensor]:
        """``x0`` of edits, and what the policy makes of it from a noised copy."""
        pipeline, scheduler = policy.pipeline, policy.pipeline.scheduler
        clean = torch.stack([epoch.rollout.clean[i, k] for i, k in rows])
        generators = [
            seeded(epoch.seed, epoch.number, 3, draw, epoch.inputs.numbers[i], k) for i, k in rows
        ]
        low, high = (
            round(share * (scheduler.config.num_train_timesteps - 1))
            for share in self.config.timesteps
        )
        timesteps = torch.cat([torch.randint(low, high + 1, (1,), generator=g) for g in generators])
        timesteps = timesteps.to(clean.device)
        noise = self.config.noise * draw_noise(clean.shape[1:], generators, clean)
        noisy = noised(scheduler, clean, noise, timesteps)
        conditioning = condition_rows(pipeline, epoch.inputs, [i for i, _ in rows])
        output = predict_noise(pipeline.unet, noisy, timesteps, conditioning, _NO_GUIDANCE)
        return clean, predicted_clean(scheduler, output.float(), noisy, timesteps)


@final
@dataclass(frozen=True, eq=False)
class DraftObjective:
    """DRaFT: the gradient of the scores, through judges, autoencoder and the last step.

    The edits are those of the rollout, made again with a graph. What finishes an edit (the share
    of the frame's own detail, rounding to bytes) has gradient 1: scores are those of the finished
    edit.

    Attributes:
        config: The pull.
        weights: Of the two scores.
        feedback: The scores.
        chain: The one that the rollouts were sampled with.
        batch_size: Edits in one pass.
    """

    config: DraftConfig
    weights: FeedbackConfig
    feedback: DifferentiableFeedback
    chain: Chain
    batch_size: int
    needs_log_probs: bool = False

    def prepare(self, policy: Policy, epoch: Epoch) -> list[Tensor | None]:
        """The reference policy's edits, for the pull."""
        if self.config.pull == 0:
            return [None for _ in self._batches(epoch)]
        with policy.reference():
            return [self._clean(policy, epoch, pairs) for pairs in self._batches(epoch)]

    def terms(self, policy: Policy, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """One loss for each batch of edits."""
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

    def _clean(self, policy: Policy, epoch: Epoch, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """``x0`` of edits (B, C, h, w), with gradients through the last step."""
        drawn = {"seed": epoch.seed, "epoch": epoch.number}
        conditioning = condition_rows(policy.pipeline, epoch.inputs, [i for i, _ in pairs])
        denoise = denoiser(policy.pipeline.unet, conditioning, self.chain.guidance)
        noise = starting_noise(epoch.inputs, pairs, self.chain, **drawn)
        generators = step_generators(epoch.inputs, pairs, **drawn)
        return sample_with_gradient(denoise, self.chain.sampler, noise, generators)

    def _finished(
        self, policy: Policy, epoch: Epoch, pairs: Sequence[tuple[int, int]], clean: Tensor
    ) -> Tensor:
        """Finished edits (B, 3, H, W), 0..255, with the gradients of the unfinished ones."""
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
