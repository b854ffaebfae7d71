"""``spie-robo evaluate-proxy``: how well a simulator predicts success in reality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from tyro import conf

from spie_robo.commands.base import Command, nothing_kept
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import Count, OptionalPath
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_between, require_seed


@final
@dataclass(frozen=True)
class EvaluateProxyCommand:
    """Settings of ``spie-robo evaluate-proxy``."""

    file: Annotated[Path, conf.arg(metavar="FILE.csv"), conf.Positional]
    """Columns policy, real, sim and further simulators, success in 0..1."""
    json: OptionalPath = None
    """JSON file to write."""
    seed: Count = 0
    """Seed of the bootstrap."""
    resamples: Count = 10_000
    """Resamples of the bootstrap."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_seed(self.seed)
        require_between("resamples", self.resamples, 100, 1_000_000)


def _run(options: EvaluateProxyCommand) -> int:
    """Print how well simulators predict success in reality."""
    from spie_robo.evaluation.proxy import proxy_fidelity
    from spie_robo.evaluation.proxy_csv import read_proxy_table
    from spie_robo.evaluation.proxy_report import fidelity_as_json, format_fidelity, notes, verdict
    from spie_robo.files.output import require_place, write_json

    if options.json is not None:
        require_place(options.json)
        if options.json.resolve() == options.file.resolve():
            raise ConfigError(f"--json {options.json}: expected another file than the table.")
    table = read_proxy_table(options.file)
    result = proxy_fidelity(
        table.real, table.simulators, seed=options.seed, resamples=options.resamples
    )
    print(format_fidelity(result))
    for line in (*notes(result), *map(verdict, result.comparisons)):
        print(line)
    if options.json is not None:
        write_json(options.json, fidelity_as_json(result, str(options.file)))
        print(f"Written: {options.json}.")
    return 0


COMMAND = Command(
    EvaluateProxyCommand,
    _run,
    "Does success in a simulator predict success in reality? Pearson and MMRV.",
    nothing_kept,
)
