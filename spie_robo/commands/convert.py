"""``spie-robo convert``: recorded episodes of any format, edited; the rest copied byte for byte."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, final

from tyro import conf

from spie_robo.commands.base import Command, nothing_kept, quoted
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import Count, Names, OptionalCount
from spie_robo.settings.locations import Location, staging_of
from spie_robo.settings.ranges import require_at_least

if TYPE_CHECKING:
    from spie_robo.data import ConvertSummary
    from spie_robo.data.conversion.plan import ConvertPlan
    from spie_robo.data.conversion.summaries import ExportSummary, UploadSummary

DataFormat: TypeAlias = Literal[
    "zarr", "diffusion-policy", "diffusion-policy-zip", "umi", "lerobot", "robomimic", "minari",
    "minari-jpeg",
]  # fmt: skip


@final
@dataclass(frozen=True)
class ConvertCommand:
    """Settings of ``spie-robo convert``."""

    source: Annotated[Path, conf.arg(metavar="IN"), conf.Positional]
    """A store, or a data set in a format of --to; s3://BUCKET/KEY too."""
    out: Annotated[Path, conf.arg(metavar="OUT"), conf.Positional]
    """The output, s3:// too; a second call resumes."""
    to: Annotated[DataFormat, conf.arg(metavar="FORMAT")] = "zarr"
    """zarr (our store), diffusion-policy[-zip], umi, lerobot, robomimic, minari[-jpeg]."""
    cameras: Names = ()
    """Cameras to edit; unset: all of the store."""
    batch_size: Count = 8
    """Frames in one call of the editor."""
    fps: OptionalCount = None
    """Steps per second, for lerobot."""
    variants: OptionalCount = None
    """Edited copies of each episode, each with another look."""
    keep_raw: bool = False
    """With --variants: raw episodes too."""
    engine: Literal["local", "ray"] = "local"
    """This process, or workers of Ray."""
    workers: OptionalCount = None
    """Workers of Ray; unset: one per GPU or core."""
    edit_timeout: Count = 3600
    """Longest time of a batch, in seconds."""
    dry_run: bool = False
    """Only print plan, time and size."""
    edit: EditRequest = field(default_factory=EditRequest)
    """Settings of the edits; --editor none changes the format only."""

    def __post_init__(self) -> None:
        """Check the ranges, and that the two stores differ."""
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("edit_timeout", self.edit_timeout, 1)
        if self.fps is not None:
            require_at_least("fps", self.fps, 1)
        if self.variants is not None:
            require_at_least("variants", self.variants, 1)
            if self.edit.raw:
                raise ConfigError("variants: expected an editor for them, got --editor none.")
        elif self.keep_raw:
            raise ConfigError("keep_raw: expected --variants N with it, got none.")
        if self.workers is not None:
            require_at_least("workers", self.workers, 1)
            if self.engine != "ray":
                raise ConfigError("workers: expected --engine ray, got --engine local.")
        if self.source.resolve() == self.out.resolve():
            raise ConfigError(
                f"out: expected another path than the source, got {self.out} twice. "
                "A conversion never writes into the store that it reads."
            )


def convert(
    command: ConvertCommand, *, progress: bool = True
) -> ConvertSummary | ExportSummary | UploadSummary:
    """Edit a data set as ``command`` says; a conversion that was cut short goes on.

    Returns:
        What was written, how many edits were accepted, and what the output has no place for.

    Raises:
        ConfigError: If the settings contradict each other.
        EditorError: If there is no such editor, or it fails.
        StoreError: If a data set cannot be read or written.
        MissingExtraError: If a format or an engine needs a package that is not installed.
    """
    from spie_robo.commands.conversion import run_conversion

    return run_conversion(command, progress=progress)


def plan(command: ConvertCommand) -> ConvertPlan:
    """Say what :func:`convert` would do; a few frames are edited to see how long it takes.

    Raises:
        SpieRoboError: As :func:`convert`.
    """
    from spie_robo.commands.conversion import plan_command

    return plan_command(command)


def _run(options: ConvertCommand) -> int:
    if options.dry_run:
        print(plan(options))
        print("Nothing was written. Next: the same command without --dry-run")
        return 0
    print(f"{convert(options)}.")
    print(f"Done: {options.edit}.")
    print(f"Next: {_after_conversion(options)}")
    return 0


def _after_conversion(options: ConvertCommand) -> str:
    """Return the next command: a report of a local store, a dry run for anything else."""
    place = Location.of(options.out)
    if options.to == "zarr" and place is None:
        page = options.out.with_suffix(".html")
        return f"spie-robo report {quoted(options.out)} --out {quoted(page)}"
    out = quoted(options.out) if place is None else shlex.quote(str(place))
    back = shlex.quote(f"{options.out.name.removesuffix('.zarr')}_back.zarr")
    return f"spie-robo convert {out} {back} --editor none --dry-run"


def _kept(options: ConvertCommand) -> str:
    """Return what is kept of a conversion after Ctrl-C."""
    again = "run the same command again to go on."
    if options.dry_run:
        return nothing_kept(options)
    if Location.of(options.source) or Location.of(options.out):
        return f"what was copied, edited or sent stays; {again}"
    staging = staging_of(options.out)
    if options.out.exists() and options.to == "zarr":
        return f"finished episodes are in {options.out}; {again}"
    if options.out.exists():
        left = f"; {staging} is no longer needed, delete it" if staging.exists() else ""
        return f"{options.out} is written{left}."
    if staging.exists() and options.to != "zarr":
        return f"{options.out} was not written, its edits are kept in {staging}; {again}"
    return f"nothing was written; {again}"


COMMAND = Command(
    ConvertCommand,
    _run,
    "Edit recorded episodes of any format; copy the rest byte for byte.",
    _kept,
)
