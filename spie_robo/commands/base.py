"""A command of ``spie-robo`` has settings, a function, and a message for Ctrl-C."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class Command:
    """A subcommand of ``spie-robo``.

    Attributes:
        settings: Its settings record; the fields are the flags, their docstrings the help.
        run: Function that does the work, prints the result and returns the exit code.
        summary: One line for the list of commands.
        kept: Function that returns, from the settings, what is kept after Ctrl-C.
    """

    settings: type[Any]
    run: Callable[[Any], int]
    summary: str
    kept: Callable[[Any], str]


def quoted(path: Path) -> str:
    """Return a path as a word of a command line."""
    return shlex.quote(str(path))


def nothing_kept(options: Any) -> str:
    """Return what is kept after Ctrl-C by a command that writes at its end."""
    return "nothing was written."


def episodes_kept(store: Path) -> str:
    """Return what is kept after Ctrl-C by a command that records episodes."""
    return f"finished episodes are in {store}." if store.exists() else "no episode was finished."


def checkpoints_kept(options: Any) -> str:
    """Return what is kept after Ctrl-C by a command that trains into ``options.out``."""
    if any((options.out / "checkpoints").glob("*/complete.json")):
        return f"checkpoints are in {options.out}; run it again with --resume to go on."
    return f"{options.out} holds no checkpoint yet; run the same command again to start over."


def copy_kept(options: Any) -> str:
    """Return what is kept after Ctrl-C by a command that copies from object storage."""
    from spie_robo.settings.locations import Location

    if Location.of(options.store) is None:
        return nothing_kept(options)
    return "what was copied here stays; run the same command again to go on."
