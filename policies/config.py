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
    """Stores to learn from: of record, convert, or Diffusion Policy."""
    out: Path
    """Folder of the policy, its checkpoints and logs."""
    algorithm: Literal["bc", "diffusion"] = "bc"
    """Behaviour cloning or Diffusion Policy."""
    camera: Names = ()
    """Keys of cameras, e.g. front_rgb, or names; unset: all."""
    state: Names = ("state",)
    """Keys of numbers that the policy sees; "--state" alone: none."""
    weights: Numbers = ()
    """Share of each store; unset: every window alike."""
    steps: Count = 2000
    """Optimiser steps."""
    batch_size: Count = 64
    """Windows of a step."""
    learning_rate: Number = 1e-3
    """Largest of AdamW; warm-up, then a cosine to 0."""
    observation_horizon: Count = 1
    """Observations that the policy sees."""
    horizon: OptionalCount = None
    """Steps of a window; unset: just what is seen and executed."""
    action_steps: Count = 4
    """Actions that it executes before it looks again."""
    image_size: Count = 64
    """Side that frames are resized to, pixels."""
    shift: Count = 4
    """Augmentation: shift images by up to this many pixels."""
    color: Annotated[Number, conf.Suppress] = 0.0
    """Augmentation, from a file: change of gain and offset of colours."""
    seed: Count = 0
    """Of weights, order and augmentation."""
    checkpoint_every: Annotated[Count, conf.Suppress] = 500
    """Steps between checkpoints, from a file."""
    resume: bool = False
    """Go on from the newest checkpoint in OUT."""
    threads: OptionalCount = None
    """CPU threads; unset: torch's choice."""
    cache: Annotated[Literal["disk", "memory"], conf.Suppress] = "disk"
    """Where decoded frames are kept, from a file."""

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
        """Steps of a window: ``horizon``, or what is needed; diffusion takes even numbers only."""
        needed = self.observation_horizon - 1 + self.action_steps
        return self.horizon or needed + (self.algorithm == "diffusion" and needed % 2)


FIRST_TEST_SEED = 1_000_000
"""Seed of the first test episode: demonstrations begin at 0, and a seed is a whole scene."""


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
    """Episodes to run."""
    json: OptionalPath = None
    """JSON file to write."""
    max_steps: OptionalCount = None
    """Steps of an episode at most; unset: the environment's limit."""
    image_size: OptionalCount = None
    """Side of the camera images in pixels; unset: the environment's."""
    other_env: bool = False
    """Let it act in another environment than its own."""
    edit: EditRequest = field(default_factory=_raw_test)
    """How frames are edited before the policy sees them; without an editor they stay raw."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_at_least("episodes", self.episodes, 1)
        for name, least in (("max_steps", 1), ("image_size", 16)):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), least)
