"""``spie-robo record``: episodes of an environment, raw or edited, in a store.

``RecordCommand -> environment (wrapped if there is an editor), policy, writer -> episodes``
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from spie_robo.commands.base import Command, episodes_kept, quoted
from spie_robo.editing.request import EditRequest, raw_request
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import Count, OptionalCount, Text
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_text

if TYPE_CHECKING:
    from spie_robo.data import RecordSummary


@final
@dataclass(frozen=True)
class RecordCommand:
    """Settings of ``spie-robo record``."""

    env: Text
    """Id of a Gymnasium environment."""
    episodes: Count
    """Episodes to record."""
    out: Path
    """The store to write; must not exist yet."""
    policy: Text = "expert"
    """Policy: "expert" (of SpieRobo's tasks), "random", or a policy's folder."""
    max_steps: OptionalCount = None
    """Most steps of an episode; unset: the environment's limit."""
    image_size: OptionalCount = None
    """Side of the camera images in pixels; unset: the environment's."""
    other_env: bool = False
    """Let a learned policy act in another environment than its own."""
    zarr_format: Literal[2, 3] = 3
    """Zarr format; Diffusion Policy's original ReplayBuffer needs 2."""
    edit: EditRequest = field(default_factory=raw_request)
    """Settings of the edits; without an editor frames stay raw."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_text("env", self.env)
        require_at_least("episodes", self.episodes, 1)
        if self.policy not in ("expert", "random") and not Path(self.policy).is_dir():
            raise ConfigError(
                f"policy: expected 'expert', 'random' or a policy's folder, got {self.policy!r}."
            )
        if self.max_steps is not None:
            require_at_least("max_steps", self.max_steps, 1)
        if self.image_size is not None:
            require_at_least("image_size", self.image_size, 16)


def record(command: RecordCommand, *, progress: bool = True) -> RecordSummary:
    """Record episodes as ``command`` says.

    Returns:
        How many episodes and steps were recorded, and how many were solved.

    Raises:
        EnvError: If the environment cannot be made, has no images or no expert.
        EditorError: If there is no such editor, or it fails.
        StoreError: If something is at ``command.out`` already, or the disk is full.
    """
    from spie_robo.commands.acting import make_env, make_policy, new_store
    from spie_robo.data.recording import metadata_of, record_episodes

    guarded = command.edit.load()
    env = make_env(command.env, guarded, command.image_size)
    try:
        policy = make_policy(command.policy, env, other_env=command.other_env)
        metadata = metadata_of(guarded)
        provenance = {**metadata.provenance, "policy": command.policy}
        metadata = dataclasses.replace(metadata, provenance=provenance)
        with new_store(command.out, metadata, command.zarr_format) as writer:
            return record_episodes(
                env,
                policy,
                command.episodes,
                command.edit.seed,
                writer,
                max_steps=command.max_steps,
                progress=progress,
            )
    finally:
        env.close()


def _run(options: RecordCommand) -> int:
    summary = record(options)
    print(f"{options.out}: {summary}; {options.edit}.")
    if options.edit.raw:
        edited = options.out.with_name(f"{options.out.stem}_edited.zarr")
        print(f"Next: spie-robo convert {quoted(options.out)} {quoted(edited)}")
    else:
        page = options.out.with_suffix(".html")
        print(f"Next: spie-robo report {quoted(options.out)} --out {quoted(page)}")
    return 0


COMMAND = Command(
    RecordCommand,
    _run,
    "Record episodes of an environment, raw or edited.",
    lambda options: episodes_kept(options.out),
)
