"""``spie-robo train``: an editor post-trained on about five photos of a lab."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from tyro import conf

from spie_robo.commands.base import Command, checkpoints_kept, quoted
from spie_robo.settings.field_types import OptionalCount, OptionalPath, OptionalText
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_seed

if TYPE_CHECKING:
    from spie_robo.training.config import TrainConfig
    from spie_robo.training.run import TrainSummary


@final
@dataclass(frozen=True)
class TrainCommand:
    """Settings of ``spie-robo train``; the file holds those of :mod:`spie_robo.training.config`."""

    references: Annotated[Path, conf.arg(metavar="DIR")]
    """Folder of about five photos of the lab; they stay on this machine."""
    frames: Annotated[Path, conf.arg(metavar="STORE")]
    """The store, or folder of pictures, to take raw frames from."""
    out: Path
    """Folder of the adapter, its checkpoints and logs."""
    config: OptionalPath = None
    """Settings file, see configs/train/; flags override it."""
    editor: OptionalText = None
    """The base: preset, pipeline folder or Hub id; unset: the file's, or embedded."""
    epochs: OptionalCount = None
    """Epochs (the paper's training steps); unset: the file's, or 10."""
    objective: Annotated[
        Literal["spie", "nft", "draft"] | None,
        conf.arg(metavar="{spie,nft,draft}", help_behavior_hint=""),
    ] = None
    """Training objective; unset: the file's, or draft."""
    seed: OptionalCount = None
    """Seed of everything that is random; unset: the file's, or 0."""
    resume: bool = False
    """Go on from the newest checkpoint in OUT."""
    no_references: bool = False
    """Do not store the photos, as latents, in the adapter."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        if self.epochs is not None:
            require_at_least("epochs", self.epochs, 1)
        if self.seed is not None:
            require_seed(self.seed)

    def settings(self) -> TrainConfig:
        """Return the settings of its file, or the shipped ones, with what the flags change.

        Raises:
            ConfigError: If the file cannot be read, or a setting is unknown or out of range.
        """
        from spie_robo.training.config import default_config, read_config

        given = {name: getattr(self, name) for name in ("editor", "epochs", "seed")}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if self.no_references:
            changes["save_references"] = False
        if self.config is not None:
            return read_config(self.config, self.objective, **changes)
        return dataclasses.replace(default_config(self.objective or "draft"), **changes)


def train(command: TrainCommand) -> TrainSummary:
    """Post-train an editor as ``command`` says.

    Returns:
        Where the adapter is, and what became better and worse.

    Raises:
        ConfigError: If a setting is out of range, or ``out`` holds something else.
        ReferencePhotoError: If there are no usable photos.
        StoreError: If the frames cannot be read.
        TrainingError: If a checkpoint is damaged, or steps are not finite.
    """
    from spie_robo.training.run import post_train

    return post_train(
        command.references, command.frames, command.out, command.settings(), command.resume
    )


def _run(options: TrainCommand) -> int:
    base_editor = options.settings().editor
    print(f"{train(options)}.")
    out, frames = quoted(options.out), quoted(options.frames)
    command = f"spie-robo evaluate --frames {frames} --references {quoted(options.references)}"
    # An adapter does not get to choose a folder of this machine as its base: the user does.
    base = f" --base {shlex.quote(base_editor)}" if Path(base_editor).is_dir() else ""
    page = f" --page {quoted(options.out.with_name(f'{options.out.name}.html'))}"
    print(f"Next: {command} --editors {shlex.quote(base_editor)} {out}{base}{page}")
    return 0


COMMAND = Command(
    TrainCommand,
    _run,
    "Post-train an editor on about five photos of your lab.",
    checkpoints_kept,
)
