"""Rollouts: K edits of each input, as the policy in training makes them, with their chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.latents import decode_target
from spie_robo.editor.noise_prediction import Conditioning, denoiser
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import to_image
from spie_robo.editor.resolution import hold_detail
from spie_robo.editor.samplers import (
    Sampler,
    Trajectory,
    build_sampler,
    draw_noise,
    sample,
    step_log_prob,
)
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import EditorError
from spie_robo.feedback.relight import relit
from spie_robo.training.inputs import EpochInputs
from spie_robo.types import RGB

if TYPE_CHECKING:
    from spie_robo.training.config import RolloutConfig, TrainConfig
    from spie_robo.training.trained_editor import TrainedEditor

_LEAST_NOISY_STEPS = 4


@final
@dataclass(frozen=True, eq=False)
class Rollout:
    """The K edits of n inputs; row ``i K + k`` of a flat tensor is edit k of input i.

    Attributes:
        clean: (n, K, C, h, w), ``x0`` of the edits.
        edits: n lists of K finished images, uint8 (H, W, 3).
        latents: (n, K, S, C, h, w), the chains without their last step; None if not recorded.
        log_probs: (n, K, S - 1), of the policy; None if not recorded.
        reference_log_probs: (n, K, S - 1), of the reference policy; None if not recorded.
    """

    clean: Tensor
    edits: list[list[RGB]]
    latents: Tensor | None = None
    log_probs: Tensor | None = None
    reference_log_probs: Tensor | None = None


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """How edits are sampled.

    Attributes:
        sampler: The steps.
        guidance: Scales of the conditions.
        frame_detail: As the editor finishes its edits, :func:`.resolution.hold_detail`.
        initial_noise: Standard deviation of the noise that a chain starts from.
        same_noise: The K edits of an input start from the same noise.
    """

    sampler: Sampler
    guidance: Guidance
    frame_detail: float
    initial_noise: float = 1.0
    same_noise: bool = False


def build_chain(pipeline: SpiePipeline, config: TrainConfig, settings: EditorSettings) -> Chain:
    """The chain of rollouts: the config's, where it says nothing the editor's.

    Log-probabilities exist for noisy steps before the last: for the ``spie`` objective an editor
    with fewer than four steps is sampled with four, and with ``eta`` 1.
    """
    rollout, noisy = config.rollout, config.objective == "spie"
    steps = rollout.steps or max(settings.steps, _LEAST_NOISY_STEPS if noisy else 1)
    eta = rollout.eta
    if eta is None:
        eta = 1.0 if noisy else settings.eta
    sampler = build_sampler(pipeline.scheduler, steps, eta)
    noise = rollout.initial_noise
    if noise is None:
        noise = settings.initial_noise if config.objective == "draft" else 1.0
    guidance = rollout.guidance or settings.guidance
    return Chain(sampler, guidance, settings.frame_detail, noise, rollout.same_noise)


def seeded(*numbers: int) -> torch.Generator:
    """A CPU generator that is a function of the numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def condition_rows(
    pipeline: SpiePipeline, inputs: EpochInputs, rows: Sequence[int]
) -> Conditioning:
    """The conditioning of some inputs, with gradients to the visual prompt.

    Args:
        pipeline: The networks.
        inputs: The epoch's inputs.
        rows: Indices of inputs; one may come several times.
    """
    chosen = list(rows)
    style = inputs.style_latents
    return pipeline.condition(
        inputs.input_latents[chosen],
        None if style is None else style[chosen],
        [inputs.instructions[i] for i in chosen],
    )


@torch.no_grad()
def roll_out(
    policy: TrainedEditor,
    inputs: EpochInputs,
    config: RolloutConfig,
    chain: Chain,
    *,
    seed: int,
    epoch: int,
    record: bool,
    edits: int | None = None,
) -> Rollout:
    """Make the edits of an epoch.

    Each edit's noise is a function of (seed, epoch, number of the input, k): it does not depend on
    batches or processes.

    Args:
        policy: Makes the edits.
        inputs: What to edit.
        config: K, noise, batch size.
        chain: The sampler.
        seed: The run's.
        epoch: From 0 on.
        record: Keep chains and log-probabilities, the reference policy's too.
        edits: K; None: the config's.
    """
    columns = []
    for k in range(edits or config.edits):
        explorer = seeded(seed, epoch, 4, k)
        with policy.perturbed(config.exploration if k else 0.0, explorer):
            parts = []
            for rows in _batches(range(len(inputs)), config.batch_size):
                pairs = [(i, k) for i in rows]
                noise = starting_noise(inputs, pairs, chain, seed=seed, epoch=epoch)
                along = step_generators(inputs, pairs, seed=seed, epoch=epoch)
                parts.append(_sample_rows(policy, inputs, rows, chain, noise, along, record))
        columns.append([_joined(tensors) for tensors in zip(*parts, strict=True)])
    clean, latents, log_probs, reference = (
        None if tensors[0] is None else torch.stack(tensors, dim=1)
        for tensors in zip(*columns, strict=True)
    )
    assert clean is not None
    finished = finish(policy.pipeline, inputs, clean, chain.frame_detail)
    return Rollout(clean, finished, latents, log_probs, reference)


@torch.no_grad()
def keep_relit(
    policy: TrainedEditor,
    inputs: EpochInputs,
    config: RolloutConfig,
    chain: Chain,
    *,
    seed: int,
    epoch: int,
) -> EpochInputs:
    """The same inputs, whose edits should stay like their frames in the light of the base's."""
    once = replace(config, exploration=0.0)
    with policy.reference():
        rollout = roll_out(
            policy, inputs, once, chain, seed=seed, epoch=epoch, record=False, edits=1
        )
    return replace(
        inputs,
        judged=tuple(
            replace(one, kept=relit(one.frame.rgb, group[0], one.frame_region))
            for one, group in zip(inputs.judged, rollout.edits, strict=True)
        ),
    )


def starting_noise(
    inputs: EpochInputs, pairs: Sequence[tuple[int, int]], chain: Chain, *, seed: int, epoch: int
) -> Tensor:
    """The noise (B, C, h, w) that the chains of B pairs (input, edit) start from."""
    latents = inputs.input_latents
    generators = [
        seeded(seed, epoch, 0, inputs.numbers[i], 0 if chain.same_noise else k) for i, k in pairs
    ]
    return chain.initial_noise * draw_noise(latents.shape[1:], generators, latents)


def step_generators(
    inputs: EpochInputs, pairs: Sequence[tuple[int, int]], *, seed: int, epoch: int
) -> list[torch.Generator]:
    """Sources of the noise along the chains of B pairs (input, edit)."""
    return [seeded(seed, epoch, 1, inputs.numbers[i], k) for i, k in pairs]


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """The batches of one k as one tensor (n, ...)."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


def _sample_rows(
    policy: TrainedEditor,
    inputs: EpochInputs,
    rows: Sequence[int],
    chain: Chain,
    noise: Tensor,
    generators: Sequence[torch.Generator],
    record: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    pipeline = policy.pipeline
    denoise = denoiser(pipeline.unet, condition_rows(pipeline, inputs, rows), chain.guidance)
    clean, trajectory = sample(denoise, chain.sampler, noise, generators, record)
    if trajectory is None:
        return clean, None, None, None
    with policy.reference():
        conditioning = condition_rows(pipeline, inputs, rows)
        reference = _log_probs(pipeline, conditioning, chain, trajectory)
    return clean, trajectory.latents, trajectory.log_probs, reference


def _log_probs(
    pipeline: SpiePipeline, conditioning: Conditioning, chain: Chain, trajectory: Trajectory
) -> Tensor:
    denoise = denoiser(pipeline.unet, conditioning, chain.guidance)
    latents = trajectory.latents
    columns = [
        step_log_prob(denoise, chain.sampler, latents[:, i], latents[:, i + 1], i)
        for i in range(latents.shape[1] - 1)
    ]
    return torch.stack(columns, dim=1)


def finish(
    pipeline: SpiePipeline, inputs: EpochInputs, clean: Tensor, frame_detail: float
) -> list[list[RGB]]:
    """Latents (n, K, C, h, w) to n lists of K images, finished as the editor finishes them.

    Raises:
        EditorError: If the latents are not finite.
    """
    if not torch.isfinite(clean).all():
        raise EditorError("The policy's edits are not finite: lower the learning rate.")
    finished = []
    for i in range(len(inputs)):
        frame = inputs.judged[i].frame.rgb
        source = inputs.input_latents[i].expand_as(clean[i])
        images = decode_target(pipeline.vae, clean[i], source, pipeline.latent_spec)
        finished.append([hold_detail(to_image(image), frame, frame_detail) for image in images])
    return finished


def _batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
