"""Build a post-training run: base, judges, data, chain, objective and optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]

from spie_robo.editor.adapter import ADAPTER_CONFIG
from spie_robo.editor.digest import weights_digest
from spie_robo.editor.editor import Editor
from spie_robo.editor.photo_check import CheckedPhotos
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.presets import find_folder, load_editor
from spie_robo.editor.samplers import build_sampler
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, StoreError
from spie_robo.feedback.differentiable import DifferentiableFeedback
from spie_robo.feedback.feedback import FeedbackModel, build_feedback
from spie_robo.feedback.judges.segmenters import load_segmenter
from spie_robo.feedback.regions import photo_regions
from spie_robo.feedback.structural import resolve_structure
from spie_robo.feedback.surroundings import resolve_region
from spie_robo.files.curves import tensorboard_installed
from spie_robo.training.config import TrainConfig
from spie_robo.training.inputs import TrainingData, gather_data
from spie_robo.training.objectives.base import Objective
from spie_robo.training.objectives.draft import DraftObjective
from spie_robo.training.objectives.nft import NftObjective
from spie_robo.training.objectives.spie import PreferenceObjective
from spie_robo.training.rollout import Chain
from spie_robo.training.trained_editor import CONV_IN, TrainedEditor
from spie_robo.types import Frame

_LEAST_NOISY_STEPS = 4


@final
@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run with all its parts loaded.

    Attributes:
        config: Settings of the run.
        editor: The editor in training; its pipeline is the policy's.
        base_digest: Hash of the base's weights.
        policy: The trained parts of the editor.
        data: Data that epochs draw from.
        preview: The same photos with frames that training never sees.
        feedback: Model that scores edits.
        accelerator: Device, precision, processes and trackers.
    """

    config: TrainConfig
    editor: Editor
    base_digest: str
    policy: TrainedEditor
    data: TrainingData
    preview: TrainingData
    feedback: FeedbackModel
    accelerator: Accelerator


def prepare(
    config: TrainConfig, photos: CheckedPhotos, frames: list[Frame], logs: Path | None = None
) -> TrainingRun:
    """Load base and judges, and prepare frames and photos for training.

    Args:
        config: Settings of the run.
        photos: The reference photos.
        frames: Frames, of which the first ``config.preview``, at most half, are held out; the
            others are trained on.
        logs: Folder of TensorBoard's files; None writes none.

    Raises:
        StoreError: If fewer than two frames can be used.
        ConfigError: If the base is an adapter.
        SpieRoboError: If photos, frames, editor or judges cannot be used.
    """
    # Load the base onto the device.
    _require_base(config.editor)
    config = _suited_to(config, frames)
    accelerator = build_accelerator(config.precision, logs)
    loaded = load_editor(config.editor)
    base_digest = weights_digest(loaded.pipeline)
    settings = _settings_of(config, loaded.settings)
    editor = Editor(loaded.pipeline, config.editor, settings)  # sets the scheduler's sampler
    editor.pipeline.to(accelerator.device)
    device = str(accelerator.device)
    # Encode the data once.
    segmenter = load_segmenter(config.feedback, device)
    data = gather_data(
        editor.pipeline,
        frames,
        photos.images,
        photo_regions=photo_regions(photos.files, photos.images, config.feedback, segmenter),
        feedback=config.feedback,
        segmenter=segmenter,
        resolution=settings.resolution,
        instruction=settings.instruction,
        use_references=config.use_references,
        photo_crops=config.photo_crops,
        seed=config.seed,
    )
    if len(data.frames) < 2:
        raise StoreError(
            f"Frames: expected 2 or more, one of them for previews, got {len(data.frames)}."
        )
    # Hold out the preview frames, and add the trained parts to the pipeline.
    held_out = min(config.preview, len(data.frames) // 2)
    policy = TrainedEditor(
        editor.pipeline, config.adapter, config.seed, config.gradient_checkpointing
    )
    return TrainingRun(
        config,
        editor,
        base_digest,
        policy,
        data.subset(slice(held_out, None)),
        data.subset(slice(held_out)),
        build_feedback(config.feedback, device),
        accelerator,
    )


def _settings_of(config: TrainConfig, base: EditorSettings) -> EditorSettings:
    """Return the base editor's settings, with those that the run overrides."""
    return dataclasses.replace(
        base,
        sampler=config.rollout.sampler or base.sampler,
        instruction=config.instruction or base.instruction,
        use_references=config.use_references,
    )


def _require_base(editor: str) -> None:
    if (find_folder(editor) / ADAPTER_CONFIG).is_file():
        raise ConfigError(f"{editor} is an adapter. Train from its base, or use --resume.")


def _suited_to(config: TrainConfig, frames: Sequence[Frame]) -> TrainConfig:
    """Choose region and structure by the geometry of the frames, and print the choice."""
    feedback, region = resolve_region(config.feedback, frames)
    feedback, structure = resolve_structure(feedback, frames)
    for name, note in (("region", region), ("structure", structure)):
        if note:
            print(f"{name}: {note}")
    return dataclasses.replace(config, feedback=feedback)


def build_chain(pipeline: SpiePipeline, config: TrainConfig, settings: EditorSettings) -> Chain:
    """Build the chain of rollouts from the run's settings, else from the editor's.

    Only noisy steps before the last have log-probabilities: for the ``spie`` objective an editor
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


BuildObjective: TypeAlias = Callable[[TrainConfig, Chain, FeedbackModel], Objective]

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
"""Builder of each objective, by its name on the command line."""


def build_objective(config: TrainConfig, chain: Chain, feedback: FeedbackModel) -> Objective:
    """Build the objective that the settings name.

    Raises:
        ConfigError: If the objective needs gradients that a judge does not give.
    """
    return OBJECTIVES[config.objective](config, chain, feedback)


def build_accelerator(precision: str, logs: Path | None = None) -> Accelerator:
    """Build the accelerator: device, precision, processes and trackers.

    On a machine without a GPU accelerate needs ``cpu=True``: without it, processes that are
    launched together would not find each other, and each would train alone.

    Args:
        precision: ``"no"`` or ``"bf16"``.
        logs: Folder of TensorBoard's files, if it is installed; None writes none.
    """
    tracked = logs is not None and tensorboard_installed()
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision,
        log_with="tensorboard" if tracked else None,
        project_dir=str(logs) if logs else None,
    )


def build_optimizer(policy: TrainedEditor, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW; ``conv_in``, of which only a slice trains, gets no weight decay."""
    settings, parameters = config.optimizer, policy.parameters()
    sliced = [p for name, p in parameters.items() if name == CONV_IN]
    whole = [p for name, p in parameters.items() if name != CONV_IN]
    groups = [{"params": whole, "weight_decay": settings.weight_decay}]
    if sliced:
        groups.append({"params": sliced, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
