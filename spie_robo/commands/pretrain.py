"""``spie-robo pretrain``: the embedded editor, trained from rendered pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, final

from spie_robo.commands.base import Command
from spie_robo.settings import yaml_files
from spie_robo.settings.field_types import OptionalCount, OptionalPath, OptionalText
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least


@final
@dataclass(frozen=True)
class PretrainCommand:
    """Settings of ``spie-robo pretrain``, which override those of its file."""

    config: OptionalPath = None
    """Settings file, see configs/pretrain/; unset: the settings of the shipped editor."""
    out: OptionalText = None
    """Folder of checkpoints, logs and weights; unset: the file's, or runs/embedded."""
    stage: OptionalText = None
    """Stage: pairs, judge, unet, refine, labs or all; unset: the file's, or all."""
    threads: OptionalCount = None
    """CPU threads; unset: the file's, or 2."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        if self.threads is not None:
            require_at_least("threads", self.threads, 1)


def _run(options: PretrainCommand) -> int:
    """Train the embedded editor."""
    from spie_robo.pretraining.config import PretrainConfig

    settings = PretrainConfig()
    if options.config is not None:
        settings = yaml_files.load_config(PretrainConfig, options.config)
    given = {"out": options.out, "stage": options.stage, "threads": options.threads}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = dataclasses.replace(settings, **changes)
    from spie_robo.pretraining.run import pretrain

    pretrain(settings)
    return 0


COMMAND = Command(
    PretrainCommand,
    _run,
    "Train the embedded editor from rendered pairs.",
    lambda options: "checkpoints are kept; run the same command again to go on.",
)
