"""Settings of ``spie-robo train``: one frozen record for each part of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.settings.ranges import require_at_least, require_seed
from spie_robo.settings.yaml_files import read_values
from spie_robo.training.objectives.draft import DraftConfig
from spie_robo.training.objectives.nft import NftConfig
from spie_robo.training.objectives.spie import PreferenceConfig
from spie_robo.training.rollout import RolloutConfig
from spie_robo.training.trained_editor import AdapterConfig

ObjectiveName = Literal["spie", "nft", "draft"]
KeptName = Literal["frame", "relit"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the AdamW optimiser.

    Attributes:
        learning_rate: The paper uses 3e-5, with InstructPix2Pix and 256 edits a step.
        weight_decay: Weight decay of the LoRA and the visual prompt.
        clip: Largest norm of the gradient; larger gradients are scaled down to it.
        updates: Optimiser steps on the same rollouts.
        batch_size: Edits in one forward and backward pass; it changes memory, not the gradient.
        max_skipped: Number of non-finite steps in a row that ends the run.
    """

    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    updates: int = 6
    batch_size: int = 32
    max_skipped: int = 3

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (0 < self.learning_rate < 1 and self.clip > 0 and self.weight_decay >= 0):
            raise ConfigError(
                "optimizer: expected 0 < learning_rate < 1, clip > 0, weight_decay >= 0; got "
                f"{self.learning_rate}, {self.clip}, {self.weight_decay}."
            )
        if self.updates < 1 or self.batch_size < 1 or self.max_skipped < 1:
            raise ConfigError(
                "optimizer: expected updates, batch_size and max_skipped >= 1, got "
                f"{self.updates}, {self.batch_size}, {self.max_skipped}."
            )


def _balanced() -> FeedbackConfig:
    return FeedbackConfig(
        structural_weight=0.25,
        rec_lambda=3.0,
        patch_judge="embedded:color+stride2+stride16",
        region="surroundings",
    )


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run that turns an editor, photos and frames into an adapter.

    Attributes:
        editor: The editor to start from: a preset, a pipeline folder or a Hub id.
        instruction: Text for the edits; None: the editor's own.
        epochs: The paper's "training steps".
        seed: Seed of all random draws.
        objective: ``"spie"`` (the paper's) and ``"nft"`` learn from rankings and take any judges;
            ``"draft"`` follows the gradients of the scores and needs differentiable judges.
        group_advantages: Compare each edit only with the edits of its own frame: advantages are
            centred in each group. Rankings stay the same; without it ``nft`` rewards easy frames.
        frames: Frames drawn from the store; each epoch draws its inputs from these.
        cameras: Cameras of the store; empty: all.
        save_references: Store the photos with the adapter, as latents that can be decoded.
        use_references: Show the photos to the editor; False trains without a visual prompt.
        photo_crops: Random crops of each photo, some mirrored, shown beside the whole photo, so
            that positions in the photos say nothing about the frames. Crops weaken the look
            slightly: use them where the guard rejects edits of a camera.
        kept: Target of the edits outside the region: ``"frame"`` is the raw frame (as in the
            paper), ``"relit"`` the raw frame in the light of the base editor's edit of it.
        preview: Held-out frames of every camera, edited and scored each epoch, never trained on.
        checkpoint_every: Epochs between checkpoints.
        precision: ``"no"`` or ``"bf16"`` (autocast).
        gradient_checkpointing: Use less memory and more time.
        rollout: Sampling of the edits.
        feedback: Scores of the edits.
        preference: Settings of the ``spie`` objective.
        nft: Settings of the ``nft`` objective.
        draft: Settings of the ``draft`` objective.
        adapter: The weights that train.
        optimizer: Settings of AdamW.
    """

    editor: str = "embedded"
    instruction: str | None = None
    epochs: int = 10
    seed: int = 0
    objective: ObjectiveName = "draft"
    group_advantages: bool = True
    frames: int = 64
    preview: int = 8
    cameras: tuple[str, ...] = ()
    save_references: bool = True
    use_references: bool = True
    photo_crops: int = 0
    kept: KeptName = "relit"
    checkpoint_every: int = 1
    precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    feedback: FeedbackConfig = field(default_factory=_balanced)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    nft: NftConfig = field(default_factory=NftConfig)
    draft: DraftConfig = field(default_factory=DraftConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check the settings that several parts share."""
        if self.objective not in get_args(ObjectiveName):
            raise ConfigError(
                f"objective: expected 'spie', 'nft' or 'draft', got {self.objective!r}."
            )
        if self.kept not in get_args(KeptName):
            raise ConfigError(f"kept: expected 'frame' or 'relit', got {self.kept!r}.")
        for name, least in (("epochs", 1), ("frames", 1), ("preview", 1),
                            ("checkpoint_every", 1), ("photo_crops", 0)):  # fmt: skip
            require_at_least(name, getattr(self, name), least)
        require_seed(self.seed)
        if self.objective == "draft" and self.rollout.exploration > 0:
            raise ConfigError(
                "objective 'draft' follows the edits of the policy itself: set "
                "rollout.exploration: 0."
            )
        if self.objective == "spie":
            self._check_log_probs()

    def _check_log_probs(self) -> None:
        rollout = self.rollout
        if rollout.exploration > 0:
            raise ConfigError(
                "objective 'spie' needs edits of the policy itself: set rollout.exploration: 0."
            )
        if rollout.steps == 1:
            raise ConfigError(
                "objective 'spie' needs rollout.steps >= 2: the last step has no density."
            )
        if rollout.eta == 0 and rollout.sampler != "euler_ancestral":
            raise ConfigError(
                "objective 'spie' needs the log-probabilities of noisy steps: set rollout.eta > 0 "
                "or rollout.sampler: euler_ancestral."
            )


def default_config(objective: ObjectiveName = "draft") -> TrainConfig:
    """Return the default settings of an objective for the embedded editor.

    Objectives that learn from rankings need more edits to choose from and one small step an epoch.
    """
    if objective == "draft":
        return TrainConfig()
    return TrainConfig(
        objective=objective,
        kept="frame",
        rollout=RolloutConfig(inputs=16, edits=6),
        feedback=FeedbackConfig(structural_weight=0.5),
        optimizer=OptimizerConfig(learning_rate=1e-3, updates=1),
    )


def read_config(
    file: str | Path, objective: ObjectiveName | None = None, **changes: Any
) -> TrainConfig:
    """Read settings from a YAML file, over the defaults of their objective.

    Args:
        file: The YAML file; a part such as ``feedback`` may be given in part.
        objective: Objective that overrides the file's.
        changes: Further settings that override the file's.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown, of the wrong type or out
            of range.
    """
    named = objective or read_values(TrainConfig, file).get("objective", "draft")
    base = default_config(named)
    values = {**read_values(TrainConfig, file, base), "objective": named, **changes}
    try:
        return replace(base, **values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
