"""The command line: turn arguments into a settings record and run the command with it.

``--config FILE`` gives defaults from YAML; flags override them. A user's mistake prints one line on
stderr and returns exit code 2; ``--debug`` shows its traceback. No heavy package is imported before
the command is known.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Union, cast

import tyro

from spie_robo import __version__
from spie_robo.commands.cores import choose_threads
from spie_robo.commands.registry import COMMANDS
from spie_robo.errors import ConfigError, SpieRoboError
from spie_robo.settings import yaml_files as config_files

USER_ERROR = 2
INTERRUPTED = 130
CLOSED = 141
TERMINATED = 143


_REFUSALS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR,
    errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO,
}  # fmt: skip
"""Errors of the operating system that blame a path and not the program."""

DESCRIPTION = (
    "Make a simulator's camera frames look like your lab while every object stays put.\n\n"
    "Every command takes --config FILE (YAML settings, see configs/; flags win) and --debug "
    "(the traceback of an error). --version prints the version."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``spie-robo``.

    Args:
        arguments: The words after ``spie-robo``; None takes them from ``sys.argv``.

    Returns:
        The exit code: 0, 1 if a check failed, 2 for a user's mistake, 130 after Ctrl-C, 141 if
        the reader of the output has closed it (``| head``), 143 after SIGTERM.
    """
    # Advice of transformers about optional packages is for developers and would bury our messages.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _run(words, debug)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return CLOSED


def _run(words: list[str], debug: bool) -> int:
    if words == ["--version"]:
        print(f"spie-robo {__version__}")
        return 0
    try:
        name, options = _parse(words)
    except SystemExit as stop:  # tyro has printed help or its own message
        return stop.code if isinstance(stop.code, int) else USER_ERROR
    except SpieRoboError as error:
        return _complain(error, debug)
    command = COMMANDS[name]
    try:
        if not __debug__ and name != "doctor":  # refuse now rather than after the work
            from spie_robo.data.store.asserts import require_asserts

            require_asserts()
        choose_threads()
        with _termination_interrupts():
            return command.run(options)
    except SpieRoboError as error:
        return _complain(error, debug)
    except OSError as error:
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        place, reason = error.filename, error.strerror
        refused = ConfigError(f"{place}: {reason}. Check the path, its permissions and the disk.")
        refused.__cause__ = error
        return _complain(refused, debug)
    except KeyboardInterrupt as stop:
        print(f"\nspie-robo {name}: interrupted; {command.kept(options)}", file=sys.stderr)
        return TERMINATED if isinstance(stop, _Terminated) else INTERRUPTED


def _output_is_closed() -> bool:
    """Return whether the reader of standard output has closed it, and if so discard the rest."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
        return False
    # The text left in the buffer would fail again, with a traceback, when Python exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


class _Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, which schedulers send, so that commands clean up as after Ctrl-C."""


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM end a running command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # others may set no handlers
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(error: SpieRoboError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"spie-robo: error: {' '.join(str(error).split())}", file=sys.stderr)
    return USER_ERROR


def _parse(words: list[str]) -> tuple[str, Any]:
    """Return the command's name and its settings record.

    Raises:
        ConfigError: If the command, or a setting in a ``--config`` file, is unknown or wrong.
        SystemExit: From tyro, after help (0) or a wrong flag (2).
    """
    # Find the command.
    words, file = _take_config(words)
    words, group = _join_words(words or ["--help"])
    name = words[0]
    known = {key: command for key, command in COMMANDS.items() if key.startswith(group)}
    if not name.startswith("-") and name not in known:
        close = difflib.get_close_matches(name, [*known, *_groups()], n=1)
        advice = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise ConfigError(f"{name!r} is no command. {advice}")
    # A --config file gives defaults.
    values: dict[str, Any] = {}
    if file is not None and name in COMMANDS:
        settings = COMMANDS[name].settings
        # The files of pretrain and train are records of their own, which these commands read.
        own = any(item.name == "config" for item in dataclasses.fields(settings))
        values = {"config": file} if own else config_files.read_values(settings, file)
    # Flags override these defaults.
    choices = tuple(
        Annotated[
            command.settings,
            tyro.conf.subcommand(
                name=key,
                default=_defaults(command.settings, values if key == name else {}),
                description=command.summary,
            ),
        ]
        for key, command in known.items()
    )
    options: Any = tyro.cli(
        cast("Any", Union[choices]),  # noqa: UP007 - the members are only known here
        args=words,
        prog="spie-robo",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    return name, options


def _groups() -> set[str]:
    """Return the first words of the commands that have two."""
    return {key.split()[0] for key in COMMANDS if " " in key}


def _join_words(words: list[str]) -> tuple[list[str], str]:
    """Join a command of two words into one; also return the prefix of the commands to offer."""
    if words[0] not in _groups():
        return words, ""
    group, rest = words[0], words[1:] or ["--help"]
    if rest[0].startswith("-"):
        return rest, f"{group} "
    return [f"{group} {rest[0]}", *rest[1:]], f"{group} "


def _take_config(words: list[str]) -> tuple[list[str], Path | None]:
    """Split ``--config FILE`` or ``--config=FILE`` from ``words``; return the rest and the file."""
    rest: list[str] = []
    file: Path | None = None
    remaining = iter(words)
    for word in remaining:
        if word == "--config":
            value = next(remaining, None)
            if value is None:
                raise ConfigError("--config: expected a YAML file after it, got nothing.")
            file = Path(value)
        elif word.startswith("--config="):
            file = Path(word.removeprefix("--config="))
        else:
            rest.append(word)
    return rest, file


def _defaults(settings: type[Any], values: dict[str, Any]) -> Any:
    """Return a record with ``values`` as defaults and tyro's mark where a flag is required.

    The record is not checked, because tyro builds the final one anew and checks that.
    """
    record = object.__new__(settings)
    for item in dataclasses.fields(settings):
        if item.name in values:
            value = values[item.name]
        elif item.default is not dataclasses.MISSING:
            value = item.default
        elif item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        else:
            value = tyro.MISSING
        object.__setattr__(record, item.name, value)
    return record


if __name__ == "__main__":
    sys.exit(main())
