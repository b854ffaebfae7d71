"""``spie-robo evaluate``: editors compared on the same frames."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from spie_robo.commands.base import Command, nothing_kept, quoted
from spie_robo.evaluation.config import EvaluateConfig

if TYPE_CHECKING:
    from spie_robo.evaluation.table import EvaluationTable


def evaluate(config: EvaluateConfig, *, progress: bool = True) -> EvaluationTable:
    """Compare editors as ``config`` says, and write the files that it names.

    Returns:
        The table: every metric of every editor.

    Raises:
        SpieRoboError: As :func:`spie_robo.evaluation.run.run_evaluation`.
    """
    from spie_robo.evaluation.run import run_evaluation

    return run_evaluation(config, progress=progress)


def _run(options: EvaluateConfig) -> int:
    """Compare editors on the same frames."""
    from spie_robo.evaluation.run import nearest_editor
    from spie_robo.evaluation.table import format_table

    table = evaluate(options)
    print(format_table(table))
    for note in table.notes:
        print(note)
    files = [str(file) for file in (options.json, options.page) if file is not None]
    written = f" Written: {', '.join(files)}." if files else ""
    best = nearest_editor(table)
    number = len(table.rows) - 1
    compared = f"{number} editors" if number != 1 else "1 editor"
    print(f"{compared} on {len(table.frames)} frames.{written}")
    if best is not None and options.frames.suffix == ".zarr":
        print(f"Next: {_next_command(options, best)}")
    return 0


def _next_command(options: EvaluateConfig, best: str) -> str:
    """Return the conversion with the best editor; an adapter keeps the base that was given."""
    out = options.frames.with_name(f"{options.frames.stem}_edited.zarr")
    adapter = options.base is not None and (Path(best) / "adapter_config.json").is_file()
    base = f" --base {shlex.quote(str(options.base))}" if adapter else ""
    return (
        f"spie-robo convert {quoted(options.frames)} {quoted(out)} --editor {shlex.quote(best)}"
        f"{base} --references {quoted(options.references)}"
    )


COMMAND = Command(
    EvaluateConfig,
    _run,
    "Compare editors on the same frames: SPIE's table, JSON and a page.",
    nothing_kept,
)
