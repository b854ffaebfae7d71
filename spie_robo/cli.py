"""The command line: arguments become a configuration record, and one function is called with it.

``--config FILE`` gives defaults from YAML, flags win. A user's mistake is one line on stderr and
exit code 2; ``--debug`` shows its traceback. Nothing heavy is imported before a command is known.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, cast, final

import tyro

from spie_robo import config, config_files
from spie_robo.errors import ConfigError, SpieRoboError

USER_ERROR = 2
INTERRUPTED = 130


@final
@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        settings: Its configuration record.
        run: Does the work and returns the exit code.
        summary: One line for the list of commands.
        kept: Says after Ctrl-C what is left, from the record.
    """

    settings: type[Any]
    run: Callable[[Any], int]
    summary: str
    kept: Callable[[Any], str]


def demo(options: config.DemoConfig) -> int:
    """Record an edited, guarded episode and write its report."""
    from spie_robo.demo import run_demo

    result = run_demo(options)
    print(f"{result.report}: {result.summary}. Open it in a browser.")
    print(f"Next: spie-robo info {_quote(result.store)}")
    return 0


def record(options: config.RecordConfig) -> int:
    """Record episodes of an environment."""
    from spie_robo.recording import record

    summary = record(options)
    print(f"{options.out}: {summary}.")
    if options.edit.editor is None:
        edited = options.out.with_name(f"{options.out.stem}_edited.zarr")
        print(f"Next: spie-robo convert {_quote(options.out)} {_quote(edited)}")
    else:
        page = options.out.with_suffix(".html")
        print(f"Next: spie-robo report {_quote(options.out)} --out {_quote(page)}")
    return 0


def convert(options: config.ConvertConfig) -> int:
    """Edit the cameras of recorded episodes."""
    from spie_robo.converting import convert

    print(f"{convert(options)}.")
    page = options.out.with_suffix(".html")
    print(f"Next: spie-robo report {_quote(options.out)} --out {_quote(page)}")
    return 0


def train(options: config.TrainOptions) -> int:
    """Post-train an editor on photos of a lab."""
    from spie_robo.training.config import TrainConfig

    file = options.config
    settings = TrainConfig() if file is None else config_files.load_config(TrainConfig, file)
    given = {name: getattr(options, name) for name in ("editor", "epochs", "objective", "seed")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.no_references:
        changes["save_references"] = False
    settings = dataclasses.replace(settings, **changes)
    from spie_robo.training.run import train

    print(f"{train(options.references, options.frames, options.out, settings, options.resume)}.")
    out, frames = _quote(options.out), _quote(options.frames)
    command = f"spie-robo evaluate --frames {frames} --references {_quote(options.references)}"
    # An adapter does not get to choose a folder of this machine as its base: the user does.
    local = Path(settings.editor).is_dir()
    base = f" --base {shlex.quote(settings.editor)}" if local else ""
    print(f"Next: {command} --editors {shlex.quote(settings.editor)} {out}{base}")
    return 0


def evaluate(options: config.EvaluateConfig) -> int:
    """Compare editors on the same frames."""
    from spie_robo.evaluating import nearest_editor, run_evaluation
    from spie_robo.evaluation.table import format_table

    table = run_evaluation(options)
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
        out = options.frames.with_name(f"{options.frames.stem}_edited.zarr")
        command = f"spie-robo convert {_quote(options.frames)} {_quote(out)}"
        photos = f"--references {_quote(options.references)}"
        print(f"Next: {command} --editor {shlex.quote(best)} {photos}")
    return 0


def info(options: config.InfoConfig) -> int:
    """Say what is in a store."""
    from spie_robo.data import describe_store

    print(describe_store(options.store))
    return 0


def verify(options: config.VerifyConfig) -> int:
    """Check every committed byte of a store; damage gives exit code 1."""
    from spie_robo.data import verify_store

    found = verify_store(options.store, progress=True)
    print(found)
    return 0 if found.ok else 1


def report(options: config.ReportConfig) -> int:
    """Write the HTML report of a store."""
    from spie_robo.report import write_report

    size = write_report(options.store, options.out, frames=options.frames).stat().st_size
    print(f"{options.out}: {size / 1e6:.1f} MB, opens offline in any browser.")
    return 0


def pretrain(options: config.PretrainOptions) -> int:
    """Train the embedded editor."""
    from spie_robo.pretraining.config import PretrainConfig

    settings = config_files.load_config(PretrainConfig, options.config)
    given = {"out": options.out, "stage": options.stage, "threads": options.threads}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = dataclasses.replace(settings, **changes)
    from spie_robo.pretraining.run import pretrain

    pretrain(settings)
    return 0


def _quote(path: Path) -> str:
    return shlex.quote(str(path))


def _nothing(options: Any) -> str:
    return "nothing was written."


COMMANDS = {
    "demo": Command(
        config.DemoConfig,
        demo,
        "Record an edited, guarded episode and write its report.",
        lambda o: (
            f"finished episodes are in {o.out / 'episodes.zarr'}; run it again to start over."
        ),
    ),
    "record": Command(
        config.RecordConfig,
        record,
        "Record episodes of an environment, raw or edited.",
        lambda o: f"finished episodes are in {o.out}.",
    ),
    "convert": Command(
        config.ConvertConfig,
        convert,
        "Edit the cameras of recorded episodes; copy the rest byte for byte.",
        lambda o: f"finished episodes are in {o.out}; run the same command again to go on.",
    ),
    "train": Command(
        config.TrainOptions,
        train,
        "Post-train an editor on about five photos of your lab.",
        lambda o: f"finished epochs are in {o.out}; run it again with --resume to go on.",
    ),
    "evaluate": Command(
        config.EvaluateConfig,
        evaluate,
        "Compare editors on the same frames: SPIE's table, JSON and a page.",
        _nothing,
    ),
    "info": Command(config.InfoConfig, info, "Say what is in a store.", _nothing),
    "verify": Command(config.VerifyConfig, verify, "Check every byte of a store.", _nothing),
    "report": Command(
        config.ReportConfig, report, "Write one HTML file with sliders and verdicts.", _nothing
    ),
    "pretrain": Command(
        config.PretrainOptions,
        pretrain,
        "Train the embedded editor from rendered pairs.",
        lambda o: "checkpoints are kept; run the same command again to go on.",
    ),
}

DESCRIPTION = (
    "Make a simulator's camera frames look like your lab while every object stays put.\n\n"
    "Every command takes --config FILE (YAML settings, see configs/; flags win) and --debug "
    "(the traceback of an error)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``spie-robo``.

    Args:
        arguments: The words after ``spie-robo``; None takes them from ``sys.argv``.

    Returns:
        The exit code: 0, 1 if a check failed, 2 for a user's mistake, 130 after Ctrl-C.
    """
    # Its advice about optional packages is for developers, and would bury our one-line messages.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        name, options = _parse(words)
    except SystemExit as stop:  # tyro has printed help or its own message
        return stop.code if isinstance(stop.code, int) else USER_ERROR
    except SpieRoboError as error:
        return _complain(error, debug)
    command = COMMANDS[name]
    try:
        return command.run(options)
    except SpieRoboError as error:
        return _complain(error, debug)
    except KeyboardInterrupt:
        print(f"\nspie-robo {name}: interrupted; {command.kept(options)}", file=sys.stderr)
        return INTERRUPTED


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
    words = words or ["--help"]
    name = words[0]
    if not name.startswith("-") and name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(COMMANDS)}."
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
        for key, command in COMMANDS.items()
    )
    options: Any = tyro.cli(
        cast("Any", Union[choices]),  # noqa: UP007 - the members are only known here
        args=words,
        prog="spie-robo",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    return name, options


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
