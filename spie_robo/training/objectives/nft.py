"""Reinforce on the forward process with DiffusionNFT's objective (arXiv 2509.16117).

This file holds settings, loss and objective of ``nft``. It adds noise to finished edits and draws
the prediction towards the good ones; it needs no log-probabilities and works with any solver.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.noise_prediction import predict_noise
from spie_robo.editor.samplers import draw_noise
from spie_robo.errors import ConfigError
from spie_robo.training.objectives.base import Epoch, LossTerm
from spie_robo.training.rollout import condition_rows, seeded
from spie_robo.training.trained_editor import TrainedEditor

Scheduler: TypeAlias = DDIMScheduler | EulerAncestralDiscreteScheduler

_NO_GUIDANCE = Guidance(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class NftConfig:
    """Settings of the ``nft`` objective, :func:`nft_loss`.

    Attributes:
        beta: Distance of the implicit policies ``v+`` and ``v-`` from the old one.
        advantage_max: Advantages are divided by twice this and clipped to -1/2 to 1/2.
        pull: Weight of the squared distance to the reference policy's prediction.
        draws: Number of noise levels that each edit is trained at.
        noise: Standard deviation of the noise, as a share of the schedule's; use the editor's own
            where its chains start from less noise.
        timesteps: Range of the noise levels, as shares of the schedule; an editor with one step is
            trained at that step, 1.
        adaptive: Divide each row's error by its own mean size, as the paper does.
    """

    beta: float = 1.0
    advantage_max: float = 2.0
    pull: float = 0.3
    draws: int = 1
    noise: float = 1.0
    timesteps: tuple[float, float] = (1.0, 1.0)
    adaptive: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (self.beta > 0 and self.advantage_max > 0 and self.pull >= 0 and self.draws >= 1):
            raise ConfigError(
                "nft: expected beta > 0, advantage_max > 0, pull >= 0, draws >= 1; got "
                f"{self.beta}, {self.advantage_max}, {self.pull}, {self.draws}."
            )
        if len(self.timesteps) != 2 or not 0 <= self.timesteps[0] <= self.timesteps[1] <= 1:
            raise ConfigError(
                f"nft.timesteps: expected 0 <= low <= high <= 1, got {self.timesteps}."
            )
        if not 0 <= self.noise <= 1:
            raise ConfigError(f"nft.noise: expected 0 to 1, got {self.noise}.")


def nft_loss(
    clean: Tensor,
    predicted: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    *,
    beta: float,
    advantage_max: float,
    pull: float = 0.0,
    adaptive: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """Draw the prediction towards good edits and away from bad ones.

    Symbols: ``x0`` an edit's latents; from it noised, the ``x0`` that three policies predict: ``v``
    the one in training, ``v_o`` the one that made the edits, ``v_ref`` the reference. (The paper
    writes velocities; ``x0`` is affine in them, so that the mixtures below are the same.) ::

        1.  r    = clip(A / (2 A_max) + 1/2, 0, 1)        how good: 0 bad, 1 good
        2.  v+   = beta v + (1 - beta) v_o                the implicit policy of good edits
            v-   = (1 + beta) v_o - beta v                that of bad ones
        3.  loss = ( r w+ ||v+ - x0||^2 + (1 - r) w- ||v- - x0||^2 ) / beta
                   + pull ||v - v_ref||^2                 mean over edits and elements
            w+   = 1 / mean |v+ - x0|, w- likewise, without gradient  (1 if not adaptive)

    Args:
        clean: x0, float (B, C, h, w), as are the next three.
        predicted: v; carries the gradient.
        old: v_o.
        reference: v_ref; None if ``pull`` is 0.
        advantages: float (B,), A.
        beta: Distance of the implicit policies, > 0.
        advantage_max: A_max > 0.
        pull: Weight of the pull to the reference, >= 0.
        adaptive: Whether to divide each error by its size.

    Returns:
        The loss, and metrics: ``good`` (mean r), ``moved`` (root mean square of ``v - v_o``).

    Raises:
        ConfigError: If shapes do not fit, or ``pull`` has no reference.
    """
    _check(clean, predicted, old, advantages)
    if pull > 0 and reference is None:
        raise ConfigError("pull: expected the reference policy's prediction, got none.")
    old = old.detach()
    # 1. optimality in 0..1
    good = (advantages / (2 * advantage_max) + 0.5).clamp(0, 1)
    # 2. implicit policies
    positive = beta * predicted + (1 - beta) * old
    negative = (1 + beta) * old - beta * predicted
    # 3. weighted errors
    errors = good * _error(positive, clean, adaptive)
    errors = errors + (1 - good) * _error(negative, clean, adaptive)
    loss = errors.mean() / beta
    if reference is not None and pull > 0:
        loss = loss + pull * (predicted - reference.detach()).square().mean()
    moved = (predicted.detach() - old).square().mean().sqrt()
    return loss, {"good": float(good.mean()), "moved": float(moved)}


def _check(clean: Tensor, predicted: Tensor, old: Tensor, advantages: Tensor) -> None:
    if not clean.shape == predicted.shape == old.shape or advantages.shape != clean.shape[:1]:
        raise ConfigError(
            "clean, predicted, old: expected one shape (B, C, h, w), advantages (B,); got "
            f"{tuple(clean.shape)}, {tuple(predicted.shape)}, {tuple(old.shape)}, "
            f"{tuple(advantages.shape)}."
        )


def _error(prediction: Tensor, clean: Tensor, adaptive: bool) -> Tensor:
    """Return the squared errors (B,), each divided by its mean absolute error if adaptive."""
    difference = (prediction - clean).flatten(1)
    squared = difference.square().mean(dim=1)
    if not adaptive:
        return squared
    return squared / difference.detach().abs().mean(dim=1).clamp(min=1e-5)


def noised(scheduler: Scheduler, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Add noise: ``x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise``, as the UNet was trained.

    Args:
        scheduler: Scheduler with the cumulative products a.
        clean: (B, C, h, w), x0.
        noise: (B, C, h, w), standard normal.
        timesteps: int64 (B,).
    """
    signal, sigma = _levels(scheduler, clean, timesteps)
    return signal * clean + sigma * noise


def predicted_clean(
    scheduler: Scheduler, output: Tensor, noisy: Tensor, timesteps: Tensor
) -> Tensor:
    """Compute the ``x0`` (B, C, h, w) that the model's output for ``noisy`` implies."""
    signal, sigma = _levels(scheduler, noisy, timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (noisy - sigma * output) / signal.clamp(min=1e-4)
    if kind == "v_prediction":
        return signal * noisy - sigma * output
    return output


def _levels(scheduler: Scheduler, like: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    alphas = scheduler.alphas_cumprod.to(like.device, torch.float32)[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


@final
@dataclass(frozen=True, eq=False)
class NftObjective:
    """The DiffusionNFT objective: noise is added to edits, and predictions move to good ones.

    Attributes:
        config: Settings of the objective.
        batch_size: Edits in one pass.
        updates: Optimiser steps an epoch; with one, the old policy is the policy itself and needs
            no pass of its own.
    """

    config: NftConfig
    batch_size: int
    updates: int
    needs_log_probs: bool = False

    def prepare(
        self, policy: TrainedEditor, epoch: Epoch
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        """Predict with the old and the reference policy, for each batch, where needed."""
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

    def terms(self, policy: TrainedEditor, epoch: Epoch, prepared: object) -> Iterator[LossTerm]:
        """Yield one loss for each batch of edits and each draw of a noise level."""
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
        self, policy: TrainedEditor, epoch: Epoch, rows: Sequence[tuple[int, int]], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Return ``x0`` of edits, and the policy's prediction of it from a noised copy."""
        # Noise level and noise are functions of the seed, the epoch and the edit.
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
        # Add the noise and predict x0 from the noised latents.
        noise = self.config.noise * draw_noise(clean.shape[1:], generators, clean)
        noisy = noised(scheduler, clean, noise, timesteps)
        conditioning = condition_rows(pipeline, epoch.inputs, [i for i, _ in rows])
        output = predict_noise(pipeline.unet, noisy, timesteps, conditioning, _NO_GUIDANCE)
        return clean, predicted_clean(scheduler, output.float(), noisy, timesteps)
