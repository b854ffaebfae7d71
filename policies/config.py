"""Settings of ``spie-robo policy train`` and ``policy evaluate``; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

from tyro import conf

from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import (
    Count,
    Names,
    Number,
    Numbers,
    OptionalCount,
    OptionalPath,
    PolicyFolder,
    Stores,
    Text,
)
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_seed


@final
@dataclass(frozen=True)
class PolicyTrainConfig:
    """Settings of ``spie-robo policy train``."""

    stores: Stores
    """Stores to learn from, written by record, convert or Diffusion Policy."""
    out: Path
    """Folder for the policy, its checkpoints and logs."""
    algorithm: Literal["bc", "diffusion"] = "bc"
    """Behaviour cloning or Diffusion Policy."""
    camera: Names = ()
    """Cameras, by key, e.g. front_rgb, or by name; unset: all."""
    state: Names = ("state",)
    """Keys of numbers that the policy sees; "--state" alone: none."""
    weights: Numbers = ()
    """Share of each store; unset: every window counts alike."""
    steps: Count = 2000
    """Optimiser steps."""
    batch_size: Count = 64
    """Windows in one step."""
    learning_rate: Number = 1e-3
    """Peak rate of AdamW: warm-up, then a cosine to 0."""
    observation_horizon: Count = 1
    """Observations that the policy sees."""
    horizon: OptionalCount = None
    """Steps of a window; unset: as many as are seen and executed."""
    action_steps: Count = 4
    """Actions to execute before the policy looks again."""
    image_size: Count = 64
    """Side of the resized frames, pixels."""
    shift: Count = 4
    """Augmentation: shift images by up to this many pixels."""
    color: Annotated[Number, conf.Suppress] = 0.0
    """Augmentation, from a file: largest change of gain and offset of colours."""
    seed: Count = 0
    """Seed of weights, order of windows and augmentation."""
    checkpoint_every: Annotated[Count, conf.Suppress] = 500
    """Steps between checkpoints, from a file."""
    resume: bool = False
    """Continue from the newest checkpoint in OUT."""
    threads: OptionalCount = None
    """CPU threads; unset: torch's choice."""
    cache: Annotated[Literal["disk", "memory"], conf.Suppress] = "disk"
    """Place of the decoded frames, from a file."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        if not self.stores:
            raise ConfigError("stores: expected one or more, got none.")
        counts = ("steps", "batch_size", "observation_horizon", "action_steps", "checkpoint_every")
        for name in counts:
            require_at_least(name, getattr(self, name), 1)
        for name in ("horizon", "threads"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        require_at_least("image_size", self.image_size, 16)
        require_seed(self.seed)
        require_at_least("shift", self.shift, 0)
        if not 0 <= self.color <= 1:
            raise ConfigError(f"color: expected 0 to 1, got {self.color:g}.")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(
                f"learning_rate: expected above 0 and at most 1, got {self.learning_rate:g}."
            )
        if self.weights and len(self.weights) != len(self.stores):
            raise ConfigError(
                f"weights: expected one a store ({len(self.stores)}), got {len(self.weights)}."
            )

    @property
    def chunk_length(self) -> int:
        """Steps of a window: ``horizon``, or as many as are needed (even for diffusion)."""
        needed = self.observation_horizon - 1 + self.action_steps
        return self.horizon or needed + (self.algorithm == "diffusion" and needed % 2)


FIRST_TEST_SEED = 1_000_000
"""Seed of the first test episode: a seed is a whole scene, and demonstrations begin at 0."""


def _raw_test() -> EditRequest:
    return EditRequest(editor=None, seed=FIRST_TEST_SEED)


@final
@dataclass(frozen=True)
class PolicyEvaluateConfig:
    """Settings of ``spie-robo policy evaluate``."""

    policy: PolicyFolder
    """Folder that ``spie-robo policy train`` wrote."""
    env: Text
    """Id of a Gymnasium environment."""
    episodes: Count
    """Number of episodes to run."""
    json: OptionalPath = None
    """JSON file to write."""
    max_steps: OptionalCount = None
    """Most steps of an episode; unset: the environment's limit."""
    image_size: OptionalCount = None
    """Side of the camera images, pixels; unset: the environment's."""
    other_env: bool = False
    """Allow another environment than the policy's own."""
    edit: EditRequest = field(default_factory=_raw_test)
    """Edits of the frames that the policy sees; without an editor they stay raw."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_at_least("episodes", self.episodes, 1)
        for name, least in (("max_steps", 1), ("image_size", 16)):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), least)
