"""The commands: each is a configuration record and a function that is called with it.

A function hands its record to the package that does the work, prints one line about the result and
the next command to run. Nothing heavy is imported before it is called.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from spie_robo import config
from spie_robo.errors import ConfigError
from spie_robo.policies.config import PolicyEvaluateConfig, PolicyTrainConfig
from spie_robo.settings import yaml_files as config_files


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
    from spie_robo.converting import convert, plan

    if options.dry_run:
        print(plan(options))
        print("Nothing was written. Next: the same command without --dry-run")
        return 0
    print(f"{convert(options)}.")
    print(f"Next: {_after_conversion(options)}")
    return 0


def _after_conversion(options: config.ConvertConfig) -> str:
    """The next command: a report of a store of this machine, a look at anything else."""
    from spie_robo.settings.locations import Location

    place = Location.of(options.out)
    if options.to == "zarr" and place is None:
        page = options.out.with_suffix(".html")
        return f"spie-robo report {_quote(options.out)} --out {_quote(page)}"
    out = _quote(options.out) if place is None else shlex.quote(str(place))
    back = shlex.quote(f"{options.out.name.removesuffix('.zarr')}_back.zarr")
    return f"spie-robo convert {out} {back} --editor none --dry-run"


def train(options: config.TrainOptions) -> int:
    """Post-train an editor on photos of a lab."""
    from spie_robo.training.config import default_config, read_config

    given = {name: getattr(options, name) for name in ("editor", "epochs", "seed")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.no_references:
        changes["save_references"] = False
    if options.config is None:
        settings = dataclasses.replace(default_config(options.objective or "draft"), **changes)
    else:
        settings = read_config(options.config, options.objective, **changes)
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
        adapter = options.base is not None and (Path(best) / "adapter_config.json").is_file()
        base = f" --base {shlex.quote(str(options.base))}" if adapter else ""
        print(f"Next: {command} --editor {shlex.quote(best)}{base} {photos}")
    return 0


def evaluate_proxy(options: config.ProxyConfig) -> int:
    """Say how well simulators predict success in reality."""
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


def policy_train(options: PolicyTrainConfig) -> int:
    """Train a policy on episodes."""
    from spie_robo.policies.training import train_policy

    summary = train_policy(options)
    print(f"{summary}.")
    env = shlex.quote(summary.env_id) if summary.env_id else "ID"
    command = f"spie-robo policy evaluate {_quote(options.out)} --env {env} --episodes 50"
    print(f"Next: {command}")
    return 0


def policy_evaluate(options: PolicyEvaluateConfig) -> int:
    """Say how often a policy solves its task."""
    from spie_robo.policies.evaluating import run_policy_evaluation

    result = run_policy_evaluation(options)
    written = "" if options.json is None else f" Written: {options.json}."
    print(f"{options.policy} in {options.env}: {result}.{written}")
    folder = options.policy if options.policy.name not in ("", "..") else options.policy.resolve()
    out = folder.with_name(f"{folder.name}.zarr")
    command = f"spie-robo record --env {shlex.quote(options.env)} --episodes 5"
    other = " --other-env" if options.other_env else ""
    print(f"Next: {command} --policy {_quote(options.policy)}{other} --out {_quote(out)}")
    return 0


def info(options: config.InfoConfig) -> int:
    """Say what is in a store."""
    from spie_robo.data.cloud.local_copy import local_copy
    from spie_robo.data.store.info import describe_store, is_described

    with local_copy(options.store, "info", is_described) as copy:
        print(copy.named(str(describe_store(copy.path, copy.sizes))))
    return 0


def verify(options: config.VerifyConfig) -> int:
    """Check every committed byte of a store; damage gives exit code 1."""
    from spie_robo.data import verify_store
    from spie_robo.data.cloud.local_copy import local_copy

    with local_copy(options.store, "verify") as copy:
        found = verify_store(copy.path, progress=True)
        print(copy.named(str(found)))
    return 0 if found.ok else 1


def report(options: config.ReportConfig) -> int:
    """Write the report of a store or a training run: a page, or a Rerun recording."""
    from spie_robo.data.cloud.local_copy import local_copy
    from spie_robo.files.output import require_place
    from spie_robo.report import write_recording, write_report, write_run_report
    from spie_robo.report.run_collect import is_run, require_no_part

    require_place(options.out)
    if options.store.resolve() in options.out.resolve().parents and not is_run(options.store):
        raise ConfigError(f"--out {options.out}: expected a file outside of the store.")
    require_no_part(options.store)
    recording = options.out.suffix == ".rrd"
    if is_run(options.store):
        if recording:
            raise ConfigError(f"{options.out}: a training run is reported on as a page: FILE.html.")
        page = write_run_report(options.store, options.out, pictures=options.frames)
    else:
        with local_copy(options.store, "report") as copy:
            address = None if copy.source is None else str(copy.source)
            if recording:
                page = write_recording(copy.path, options.out, frames=options.frames)
            else:
                page = write_report(copy.path, options.out, frames=options.frames, address=address)
    opens = f"open it with: rerun {_quote(page)}" if recording else "opens offline in any browser"
    print(f"{options.out}: {page.stat().st_size / 1e6:.1f} MB, {opens}.")
    return 0


def doctor(options: config.DoctorConfig) -> int:
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


def _episodes(store: Path) -> str:
    return f"finished episodes are in {store}." if store.exists() else "no episode was finished."


def _converted(options: config.ConvertConfig) -> str:
    from spie_robo.settings.locations import Location, staging_of

    again = "run the same command again to go on."
    if options.dry_run:
        return _nothing(options)
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


def _checkpointed(options: Any) -> str:
    if any((options.out / "checkpoints").glob("*/complete.json")):
        return f"checkpoints are in {options.out}; run it again with --resume to go on."
    return f"{options.out} holds no checkpoint yet; run the same command again to start over."


def _copied(options: Any) -> str:
    from spie_robo.settings.locations import Location

    if Location.of(options.store) is None:
        return _nothing(options)
    return "what was copied here stays; run the same command again to go on."


COMMANDS = {
    "demo": Command(
        config.DemoConfig,
        demo,
        "Record an edited, guarded episode and write its report.",
        lambda o: _episodes(o.out / "episodes.zarr") + " Run it again to start over.",
    ),
    "record": Command(
        config.RecordConfig,
        record,
        "Record episodes of an environment, raw or edited.",
        lambda o: _episodes(o.out),
    ),
    "convert": Command(
        config.ConvertConfig,
        convert,
        "Edit recorded episodes of any format; copy the rest byte for byte.",
        _converted,
    ),
    "train": Command(
        config.TrainOptions,
        train,
        "Post-train an editor on about five photos of your lab.",
        _checkpointed,
    ),
    "evaluate": Command(
        config.EvaluateConfig,
        evaluate,
        "Compare editors on the same frames: SPIE's table, JSON and a page.",
        _nothing,
    ),
    "evaluate-proxy": Command(
        config.ProxyConfig,
        evaluate_proxy,
        "Does success in a simulator predict success in reality? Pearson and MMRV.",
        _nothing,
    ),
    "policy train": Command(
        PolicyTrainConfig,
        policy_train,
        "Train a policy on episodes: behaviour cloning or Diffusion Policy.",
        _checkpointed,
    ),
    "policy evaluate": Command(
        PolicyEvaluateConfig, policy_evaluate, "Say how often a policy solves its task.", _nothing
    ),
    "info": Command(config.InfoConfig, info, "Say what is in a store.", _copied),
    "verify": Command(config.VerifyConfig, verify, "Check every byte of a store.", _copied),
    "report": Command(
        config.ReportConfig,
        report,
        "Write one HTML file with sliders and verdicts, or a Rerun recording.",
        _copied,
    ),
    "doctor": Command(
        config.DoctorConfig,
        doctor,
        "Check this machine and installation, with a self-test of the editor.",
        _nothing,
    ),
    "pretrain": Command(
        config.PretrainOptions,
        pretrain,
        "Train the embedded editor from rendered pairs.",
        lambda o: "checkpoints are kept; run the same command again to go on.",
    ),
}
