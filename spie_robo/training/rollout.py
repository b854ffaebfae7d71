"""Sample rollouts: K edits of each input by the policy in training, with their chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

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
    draw_noise,
    sample,
    step_log_prob,
)
from spie_robo.errors import ConfigError, EditorError
from spie_robo.feedback.relight import relit
from spie_robo.training.inputs import EpochInputs
from spie_robo.training.trained_editor import TrainedEditor
from spie_robo.types import RGB


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of the edits that are sampled for scoring.

    Attributes:
        inputs: N, number of frames in an epoch, over all processes.
        edits: K, number of edits of each frame, which are ranked against each other.
        steps: S, denoising steps; None: the editor's own, for the ``spie`` objective at least 4.
        sampler: ``"ddim"``, ``"euler_ancestral"``, or None for the editor's own.
        eta: Noise of DDIM's steps; None: the editor's own, for the ``spie`` objective 1.
        initial_noise: Standard deviation of the noise at the start of a chain; None: the editor's
            own for the ``draft`` objective, 1 for the others, so that the edits of a frame differ.
        same_noise: Start the K edits of a frame from the same noise, as in the paper; they then
            differ only by the noise of the steps.
        exploration: Deviation of noise on the style channels and the visual prompt, relative to
            their size, one draw for each k from 1 on; see
            :meth:`.trained_editor.TrainedEditor.perturbed`. Only for the ``nft`` objective.
        guidance: Scales of the conditions; None: the editor's.
        batch_size: Edits in one forward pass.
    """

    inputs: int = 8
    edits: int = 2
    steps: int | None = None
    sampler: Literal["ddim", "euler_ancestral"] | None = None
    eta: float | None = None
    initial_noise: float | None = None
    same_noise: bool = False
    exploration: float = 0.0
    guidance: Guidance | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least in (("inputs", 1), ("edits", 2), ("steps", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"rollout.{name}: expected {least} or more, got {value}.")
        for name in ("eta", "initial_noise", "exploration"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"rollout.{name}: expected 0 to 1, got {share}.")


@final
@dataclass(frozen=True, eq=False)
class Rollout:
    """The K edits of n inputs; in flat tensors edit k of input i is row ``i K + k``.

    Attributes:
        clean: (n, K, C, h, w), ``x0`` of the edits.
        edits: n lists of K finished images, uint8 (H, W, 3).
        latents: (n, K, S, C, h, w), chains without their last step; None if not recorded.
        log_probs: (n, K, S - 1), under the policy; None if not recorded.
        reference_log_probs: (n, K, S - 1), under the reference policy; None if not recorded.
    """

    clean: Tensor
    edits: list[list[RGB]]
    latents: Tensor | None = None
    log_probs: Tensor | None = None
    reference_log_probs: Tensor | None = None


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """The sampler of edits and its settings.

    Attributes:
        sampler: Denoising steps.
        guidance: Scales of the conditions.
        frame_detail: Share of the frame's detail in an edit, see :func:`.resolution.hold_detail`.
        initial_noise: Standard deviation of the noise at the start of a chain.
        same_noise: Whether the K edits of an input start from the same noise.
    """

    sampler: Sampler
    guidance: Guidance
    frame_detail: float
    initial_noise: float = 1.0
    same_noise: bool = False


def seeded(*numbers: int) -> torch.Generator:
    """Return a CPU generator whose seed is a function of the numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def condition_rows(
    pipeline: SpiePipeline, inputs: EpochInputs, rows: Sequence[int]
) -> Conditioning:
    """Compute the conditioning of some inputs, with gradients to the visual prompt.

    Args:
        pipeline: The networks.
        inputs: The epoch's inputs.
        rows: Indices of inputs; an index may repeat.
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
    """Sample the edits of an epoch.

    Each edit's noise is a function of (seed, epoch, index of the input, k) and does not depend on
    batches or processes.

    Args:
        policy: The editor that makes the edits.
        inputs: Inputs to edit.
        config: K, exploration and batch size.
        chain: Sampler of the edits.
        seed: Seed of the run.
        epoch: Index of the epoch, from 0 on.
        record: Keep chains and log-probabilities, also the reference policy's.
        edits: K; None: the config's.
    """
    # Sample edit k of all inputs in batches; exploration perturbs all but the first.
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
    # Stack the K edits of each input and finish them.
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
    """Return the inputs with targets outside the region: the frames in the light of base edits."""
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
    """Draw the noise (B, C, h, w) at the start of the chains of B pairs (input, edit)."""
    latents = inputs.input_latents
    generators = [
        seeded(seed, epoch, 0, inputs.numbers[i], 0 if chain.same_noise else k) for i, k in pairs
    ]
    return chain.initial_noise * draw_noise(latents.shape[1:], generators, latents)


def step_generators(
    inputs: EpochInputs, pairs: Sequence[tuple[int, int]], *, seed: int, epoch: int
) -> list[torch.Generator]:
    """Return the generators of the noise along the chains of B pairs (input, edit)."""
    return [seeded(seed, epoch, 1, inputs.numbers[i], k) for i, k in pairs]


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Join the batches of one k to one tensor (n, ...)."""
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
    """Turn latents (n, K, C, h, w) into n lists of K images, finished as the editor's edits.

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
