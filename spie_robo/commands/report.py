"""``spie-robo report``: a store or a training run as one page, or as a Rerun recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from spie_robo.commands.base import Command, copy_kept, quoted
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import Count, Store
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least


@final
@dataclass(frozen=True)
class ReportCommand:
    """Settings of ``spie-robo report``."""

    store: Store
    """The store to show, s3://BUCKET/KEY too, or the folder of a training run."""
    out: Path
    """The HTML file to write, or FILE.rrd for the Rerun viewer."""
    frames: Count = 40
    """Most frames of an episode, or pictures of a run, to show."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self, but=("store",))
        require_at_least("frames", self.frames, 2)


def report(options: ReportCommand) -> Path:
    """Write the report of a store or a training run: a page, or a Rerun recording.

    Returns:
        The file.

    Raises:
        ConfigError: If the file would lie in the store, or a run is asked for as a recording.
        StoreError: If the store cannot be read.
        MissingExtraError: If a Rerun recording is asked for and its package is not installed.
    """
    from spie_robo.data.cloud.local_copy import local_copy
    from spie_robo.files.output import require_place
    from spie_robo.reporting import write_recording, write_report, write_run_report
    from spie_robo.reporting.run_collect import is_run, require_no_part

    # Find out what is shown, and whether the page may lie there.
    require_place(options.out)
    run = is_run(options.store)
    if options.store.resolve() in options.out.resolve().parents and not run:
        raise ConfigError(f"--out {options.out}: expected a file outside of the store.")
    require_no_part(options.store)
    recording = options.out.suffix == ".rrd"
    if run and recording:
        raise ConfigError(f"{options.out}: a training run is reported on as a page: FILE.html.")
    if run:
        return write_run_report(options.store, options.out, pictures=options.frames)
    # A store in object storage is copied here for as long as it takes.
    with local_copy(options.store, "report") as copy:
        if recording:
            return write_recording(copy.path, options.out, frames=options.frames)
        address = None if copy.source is None else str(copy.source)
        return write_report(copy.path, options.out, frames=options.frames, address=address)


def _run(options: ReportCommand) -> int:
    page = report(options)
    recording = page.suffix == ".rrd"
    opens = f"open it with: rerun {quoted(page)}" if recording else "opens offline in any browser"
    print(f"{options.out}: {page.stat().st_size / 1e6:.1f} MB, {opens}.")
    return 0


COMMAND = Command(
    ReportCommand,
    _run,
    "Write one HTML file with sliders and verdicts, or a Rerun recording.",
    copy_kept,
)
