"""Settings of ``spie-robo evaluate``; this module imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, final

from tyro import conf

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.settings.field_types import Count, Names, OptionalPath, OptionalText
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_seed, require_text


@final
@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of ``spie-robo evaluate``."""

    frames: Annotated[Path, conf.arg(metavar="STORE")]
    """Store, or folder of pictures, with the raw frames."""
    references: Annotated[Path, conf.arg(metavar="DIR")]
    """Folder of photos of the lab that edits should look like."""
    editors: Names
    """Editors to compare: presets, folders, Hub ids, match-histograms, reinhard."""
    base: OptionalText = None
    """For adapters: base to use instead of the one they name."""
    held_out: OptionalPath = None
    """Other photos of the lab, for KID and for the floor of the scores."""
    count: Count = 32
    """Number of frames to compare on."""
    seed: Count = 0
    """Seed of the choice of frames and of the edits."""
    instruction: OptionalText = None
    """Text for editors and text metrics; unset: the editors' own."""
    region_names: Names = ()
    """Names of objects that are to change; adds L2 outside them."""
    json: OptionalPath = None
    """JSON file to write."""
    page: OptionalPath = None
    """HTML file to write: the table, and pictures side by side."""
    clip: OptionalText = None
    """CLIP model, folder or Hub id: text, direction and patches."""
    dino: OptionalText = None
    """DINOv2 model, folder or Hub id: patches."""
    pick_score: OptionalText = None
    """PickScore model, folder or Hub id."""
    dreamsim: bool = False
    """Compare patches with the package dreamsim."""
    hps: bool = False
    """Score with the package hpsv2."""
    image_reward: bool = False
    """Score with the package image-reward."""
    feedback: Annotated[FeedbackConfig, conf.Suppress] = field(default_factory=FeedbackConfig)
    """Judges and regions, from a YAML file; both kinds of each score are measured."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_at_least("count", self.count, 2)
        require_seed(self.seed)
        if not self.editors:
            raise ConfigError("editors: expected one or more, got none.")
        for name in self.editors:
            require_text("editors", name)
        twice = sorted({name for name in self.editors if self.editors.count(name) > 1})
        if twice:
            raise ConfigError(f"editors: expected each once, got {', '.join(twice)} again.")
