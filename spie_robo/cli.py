"""The command line: arguments become a configuration record, and one function is called with it.

``--config FILE`` gives defaults from YAML, flags win. A user's mistake is one line on stderr and
exit code 2; ``--debug`` shows its traceback. Nothing heavy is imported before a command is known.
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
from spie_robo.commands import COMMANDS
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
"""What the operating system answers where a path, and not the program, is at fault."""

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
        whoever reads the output has closed it (``| head``), 143 after SIGTERM.
    """
    # Its advice about optional packages is for developers, and would bury our one-line messages.
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
        if not __debug__ and name != "doctor":  # found out now, not after the work
            from spie_robo.data.store.asserts import require_asserts

            require_asserts()
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
    """Whether nobody reads standard output any more; if so, no more is tried."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
        return False
    # What waits in the buffer would fail once more, with a traceback, when Python exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send: a command cleans up after it as after Ctrl-C."""


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """While a command runs, let SIGTERM end it as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
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
    """The command's name and its configuration record.

    Raises:
        ConfigError: If the command, or a setting in a ``--config`` file, is unknown or wrong.
        SystemExit: From tyro, after help (0) or a wrong flag (2).
    """
    words, file = _take_config(words)
    words, group = _join_words(words or ["--help"])
    name = words[0]
    known = {key: command for key, command in COMMANDS.items() if key.startswith(group)}
    if not name.startswith("-") and name not in known:
        close = difflib.get_close_matches(name, [*known, *_groups()], n=1)
        advice = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise ConfigError(f"{name!r} is no command. {advice}")
    values: dict[str, Any] = {}
    if file is not None and name in COMMANDS:
        settings = COMMANDS[name].settings
        # The files of pretrain and train are records of their own, which the commands read.
        own = any(item.name == "config" for item in dataclasses.fields(settings))
        values = {"config": file} if own else config_files.read_values(settings, file)
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
    """First words of the commands of two words."""
    return {key.split()[0] for key in COMMANDS if " " in key}


def _join_words(words: list[str]) -> tuple[list[str], str]:
    """``words`` with a command of two words as one, and how the commands to choose from begin."""
    if words[0] not in _groups():
        return words, ""
    group, rest = words[0], words[1:] or ["--help"]
    if rest[0].startswith("-"):
        return rest, f"{group} "
    return [f"{group} {rest[0]}", *rest[1:]], f"{group} "


def _take_config(words: list[str]) -> tuple[list[str], Path | None]:
    """``words`` without ``--config FILE`` or ``--config=FILE``, and the file."""
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
    """A record with ``values`` in place of defaults and tyro's mark where a flag is still needed.

    It is not checked: tyro builds the record anew from what this one holds, and that one is.
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
