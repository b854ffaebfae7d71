"""What a command of ``spie-robo`` is: settings, a function, and what Ctrl-C leaves behind."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        settings: Its record; the fields are the flags, their docstrings the help.
        run: Does the work, prints the result and the next command, returns the exit code.
        summary: One line for the list of commands.
        kept: Says after Ctrl-C what is left, from the record.
    """

    settings: type[Any]
    run: Callable[[Any], int]
    summary: str
    kept: Callable[[Any], str]


def quoted(path: Path) -> str:
    """A path as a word of a command line."""
    return shlex.quote(str(path))


def nothing_kept(options: Any) -> str:
    """What Ctrl-C leaves of a command that writes at its end."""
    return "nothing was written."


def episodes_kept(store: Path) -> str:
    """What Ctrl-C leaves of a command that records episodes."""
    return f"finished episodes are in {store}." if store.exists() else "no episode was finished."


def checkpoints_kept(options: Any) -> str:
    """What Ctrl-C leaves of a command that trains into ``options.out``."""
    if any((options.out / "checkpoints").glob("*/complete.json")):
        return f"checkpoints are in {options.out}; run it again with --resume to go on."
    return f"{options.out} holds no checkpoint yet; run the same command again to start over."


def copy_kept(options: Any) -> str:
    """What Ctrl-C leaves of a command that copies ``options.store`` from object storage."""
    from spie_robo.settings.locations import Location

    if Location.of(options.store) is None:
        return nothing_kept(options)
    return "what was copied here stays; run the same command again to go on."
