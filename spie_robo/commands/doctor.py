"""``spie-robo doctor``: checks that this machine and installation can edit frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from spie_robo.commands.base import Command, nothing_kept
from spie_robo.settings.field_types import OptionalPath
from spie_robo.settings.locations import require_here


@final
@dataclass(frozen=True)
class DoctorCommand:
    """Settings of ``spie-robo doctor``."""

    json: OptionalPath = None
    """JSON file to write."""
    no_self_test: bool = False
    """Skip the edit of a test frame, which takes about ten seconds."""

    def __post_init__(self) -> None:
        """Check the path."""
        require_here(self)


def _run(options: DoctorCommand) -> int:
    """Check this machine and installation; a failure gives exit code 1."""
    from spie_robo.doctor.diagnose import diagnose
    from spie_robo.doctor.report import checks_as_json, format_checks, healthy, summary
    from spie_robo.doctor.self_test import run_self_test
    from spie_robo.files.output import require_place, write_json

    if options.json is not None:
        require_place(options.json)
    results = diagnose(None if options.no_self_test else run_self_test)
    print(format_checks(results))
    if options.json is not None:
        write_json(options.json, checks_as_json(results))
        print(f"Written: {options.json}.")
    print(summary(results))
    return 0 if healthy(results) else 1


COMMAND = Command(
    DoctorCommand,
    _run,
    "Check this machine and installation, with a self-test of the editor.",
    nothing_kept,
)
