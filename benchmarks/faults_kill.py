"""SIGKILL, SIGINT and SIGTERM at random moments, two writers at a time, editors that fail."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults_fakes as fakes
import faults_jobs as jobs
import numpy as np
from faults_jobs import Outcome

from spie_robo import cli
from spie_robo.data import EpisodeWriter
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import EditorError, SpieRoboError, StoreLockedError
from spie_robo.types import EditResult

KILLED = -signal.SIGKILL
WITHIN = 5.0


def kill_recording(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL while episodes are recorded; then recording goes on."""
    return _kill(folder, seed, trials, lambda out: (jobs.record, out))


def kill_converting(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL while a store is converted; then the same command again."""
    source = folder / "source.zarr"
    jobs.finish(jobs.start(jobs.record, source))
    return _kill(folder, seed, trials, lambda out: (jobs.convert, source, out), source)


def kill_exporting(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL while a foreign format is written: all of it is there, or nothing."""
    source = folder / "source.zarr"
    jobs.finish(jobs.start(jobs.record, source))
    return _kill(
        folder, seed, trials, lambda out: (jobs.export, source, out), source, is_store=False
    )


def kill_training(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL while post-training writes checkpoints; then it resumes."""
    return _kill(folder, seed, trials, lambda out: (jobs.train, out), is_store=False)


def kill_policy(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL while policy training writes checkpoints; then it resumes."""
    return _kill(folder, seed, trials, lambda out: (jobs.train_policy, out), is_store=False)


def _kill(
    folder: Path,
    seed: int,
    trials: int,
    work: Callable[[Path], tuple[Any, ...]],
    source: Path | None = None,
    is_store: bool = True,
) -> Outcome:
    """Kill ``work`` at a random moment of its run, do it again, compare with an undisturbed run."""
    rng = np.random.default_rng(seed)
    whole, out = folder / "whole", folder / "out"
    duration = _duration(work(whole))
    expected = jobs.files(whole)
    fingerprint = jobs.ask(jobs.state, whole)["fingerprint"] if is_store else ""
    before = None if source is None else jobs.files(source)
    kept = killed = nothing = tries = 0
    failures: list[str] = []
    while killed < trials and tries < 4 * trials + 20:
        tries += 1
        _clear(out)
        child = jobs.start(*work(out))
        time.sleep(float(rng.uniform(0, duration)))
        os.kill(child, signal.SIGKILL)
        if jobs.finish(child) != KILLED:
            duration *= 0.95  # it was done already: the machine has become faster
            continue
        killed += 1
        nothing += not out.exists()
        duration = max(duration, _duration(work(out)))  # resumes; a whole run takes no less
        found = jobs.files(out) if out.exists() else {}
        same = found == expected
        if not same:
            failures.append(str(sorted(dict(found.items() ^ expected.items()))[:4]))
        if is_store and killed % 10 == 1:  # equal files have equal fingerprints: look at some
            same = same and jobs.ask(jobs.state, out)["fingerprint"] == fingerprint
        kept += same and (source is None or jobs.files(source) == before)
    detail = f"{nothing} before anything was there, {tries - killed} ended before the kill"
    return Outcome(killed, kept, "; ".join([detail, *failures[:3]]))


def _duration(work: tuple[Any, ...]) -> float:
    began = time.monotonic()
    status = jobs.finish(jobs.start(*work))
    if status != 0:
        return 0.0
    return time.monotonic() - began


def _clear(path: Path) -> None:
    for stray in path.parent.glob(f".{path.name}*"):
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def signals(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGINT and SIGTERM to ``record`` and ``convert``: exit within 5 s, whole episodes only."""
    rng = np.random.default_rng(seed)
    source = folder / "source.zarr"
    jobs.finish(jobs.start(jobs.record, source, 8))
    done = kept = late = 0
    slowest, failures = 0.0, []
    commands = {
        "record": lambda out: ["record", "--env", jobs.ENV, "--episodes", "8", "--out", str(out),
                               "--policy", "random"],
        "convert": lambda out: ["convert", str(source), str(out)],
    }  # fmt: skip
    whole = {name: folder / f"whole_{name}.zarr" for name in commands}
    durations = {n: _command_duration(commands[n](whole[n]), folder) for n in commands}
    expected = {name: jobs.files(path) for name, path in whole.items()}
    before = jobs.files(source)
    while done < trials and late < trials + 20:
        name = ("record", "convert")[done % 2]
        number = (signal.SIGINT, signal.SIGTERM)[done // 2 % 2]
        out = folder / "out.zarr"
        _clear(out)
        wait = float(rng.uniform(0, durations[name]))
        status, took = _interrupt(commands[name](out), folder, wait, number)
        if status is None:
            late += 1
            continue
        done += 1
        slowest = max(slowest, took)
        there = jobs.ask(jobs.state, out)
        good = status == 128 + number and took <= WITHIN and there is not None
        good = good and there["ok"] and there.get("even", True)
        again = "not tried"
        if name == "convert" and good:
            again = str(_run_command(commands[name](out), folder))
            good = jobs.files(out) == expected[name]
        good = good and jobs.files(source) == before
        kept += good
        if not good:
            failures.append(f"{name} {number.name} after {wait:.2f}: {status} {there} {again}")
    detail = f"slowest exit {slowest:.2f} s, {late} ended before the signal"
    return Outcome(done, kept, "; ".join([detail, *failures[:3]]))


def _command(words: list[str], ready: Path) -> int:
    """``spie-robo`` with a fake editor to convert with; says when it begins, and is over."""

    def load(request: EditRequest) -> GuardedEditor | None:
        ready.touch()
        return GuardedEditor(fakes.Swap(), fakes.Even()) if words[0] == "convert" else None

    EditRequest.load = load  # type: ignore[method-assign]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    status: int | None = None
    try:
        status = cli.main(words)
        ready.with_name("over").touch()
    except KeyboardInterrupt:
        if status is None:
            raise
        ready.with_name("over").touch()  # it came when the command had returned
    return status


def _run_command(words: list[str], folder: Path) -> int:
    (folder / "again").unlink(missing_ok=True)
    return jobs.finish(jobs.start(_command, words, folder / "again"))


def _command_duration(words: list[str], folder: Path) -> float:
    child = jobs.start(_command, words, folder / "ready")
    _wait_for(folder / "ready")
    began = time.monotonic()
    jobs.finish(child)
    return time.monotonic() - began


def _interrupt(
    words: list[str], folder: Path, wait: float, number: int
) -> tuple[int | None, float]:
    """Status after a signal and the seconds until the end; None if the work was over before."""
    (folder / "over").unlink(missing_ok=True)
    child = jobs.start(_command, words, folder / "ready")
    _wait_for(folder / "ready")
    time.sleep(wait)
    if (folder / "over").exists():
        jobs.finish(child)
        return None, 0.0
    began = time.monotonic()
    os.kill(child, number)
    status = jobs.finish(child)
    return status, time.monotonic() - began


def _wait_for(file: Path) -> None:
    for _ in range(10_000):
        if file.exists():
            file.unlink()
            return
        time.sleep(0.002)


def two_writers(folder: Path, seed: int, trials: int) -> Outcome:
    """Three writers open one store at the same time: one gets it, two are told who has it."""
    path, gate = folder / "store.zarr", folder / "gate"
    jobs.finish(jobs.start(jobs.record, path))
    kept = 0
    for trial in range(trials):
        gate.unlink(missing_ok=True)
        done = folder / f"done_{trial}"
        children = [jobs.start(_one_writer, path, gate, done) for _ in range(3)]
        gate.touch()
        time.sleep(0.05)
        results = []
        for _ in children:  # losers end at once; the winner waits for `done`
            if len(results) == 2:
                done.touch()
            results.append(_poll(children, results))
        there = jobs.ask(jobs.state, path)
        good = sorted(status for _, status in results) == [0, 7, 7]
        kept += good and there["ok"] and there["episodes"] == jobs.EPISODES + trial + 1
    return Outcome(trials, kept, "three at a time")


def _one_writer(path: Path, gate: Path, done: Path) -> int:
    while not gate.exists():
        time.sleep(0.001)
    try:
        with EpisodeWriter.open(path) as writer:
            jobs.record_episodes(
                jobs.FakeEnv(), jobs.Policy(), 1, writer.n_episodes, writer, progress=False
            )
            deadline = time.monotonic() + 20
            while not done.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
    except StoreLockedError as error:
        return 7 if "is being written by" in str(error) else 8
    return 0


def _poll(children: list[int], over: list[tuple[int, int]]) -> tuple[int, int]:
    """The next child that ends, and its status."""
    ended = {child for child, _ in over}
    while True:
        for child in children:
            if child not in ended:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return child, os.waitstatus_to_exitcode(status)
        time.sleep(0.002)


class Broken(fakes.Swap):
    """An editor that fails from its n-th call on, in one of several ways."""

    def __init__(self, way: str, calls: int) -> None:
        """Fail in this way after so many good calls."""
        self.way, self.calls = way, calls

    def edit(self, frames: Any, references: Any = None, instruction: Any = None, seeds: Any = None):
        """Edits, as long as it goes well."""
        edits = super().edit(frames, references, instruction, seeds)
        self.calls -= 1
        if self.calls >= 0:
            return edits
        if self.way == "raises":
            raise RuntimeError("out of memory")
        if self.way.startswith("hangs"):
            time.sleep(600)
        if self.way == "returns one edit too few":
            return edits[:-1]
        nan = {"returns NaN": np.float32("nan"), "returns another size": np.uint8(0)}[self.way]
        shape = frames[0].rgb.shape if self.way == "returns NaN" else (4, 4, 3)
        return [EditResult(np.full(shape, nan), 0, "", self.id, 1) for _ in edits]


def failing_editors(folder: Path, seed: int, trials: int) -> Outcome:
    """An editor raises, or returns NaN, another size, or too few: EditorError, then a resume."""
    ways = ("raises", "returns NaN", "returns another size", "returns one edit too few")
    return _editors(folder, seed, trials, ways, _named_editor_error, 7)


def hanging_editor(folder: Path, seed: int, trials: int) -> Outcome:
    """An editor hangs: Ctrl-C ends it within 5 s, then a resume."""
    return _editors(folder, seed, trials, ("hangs",), _interrupted, 130)


def timed_out_editor(folder: Path, seed: int, trials: int) -> Outcome:
    """An editor hangs for longer than --edit-timeout allows: EditorError, then a resume."""
    return _editors(folder, seed, trials, ("hangs for too long",), _timed_out, 7)


def _editors(
    folder: Path,
    seed: int,
    trials: int,
    ways: tuple[str, ...],
    attempt: Callable[..., int],
    wanted: int,
) -> Outcome:
    rng = np.random.default_rng(seed)
    source, whole, out = (folder / name for name in ("source.zarr", "whole.zarr", "out.zarr"))
    jobs.finish(jobs.start(jobs.record, source))
    jobs.finish(jobs.start(jobs.convert, source, whole))
    before, expected = jobs.files(source), jobs.files(whole)
    kept = 0
    for trial in range(trials):
        _clear(out)
        way = ways[trial % len(ways)]
        editor = Broken(way, int(rng.integers(0, 6)))
        child = jobs.start(attempt, source, out, editor)
        if way == "hangs":
            time.sleep(1.0)
            os.kill(child, signal.SIGINT)
        good = jobs.finish(child, WITHIN if way == "hangs" else 60) == wanted
        good = good and jobs.finish(jobs.start(jobs.convert, source, out)) == 0
        kept += good and jobs.files(out) == expected and jobs.files(source) == before
    return Outcome(trials, kept, ", ".join(ways))


def _named_editor_error(source: Path, out: Path, editor: Broken) -> int:
    try:
        jobs.convert(source, out, editor)
    except EditorError as error:
        return 7 if "swap@1" in str(error) else 8
    except SpieRoboError:
        return 9
    return 0


def _timed_out(source: Path, out: Path, editor: Broken) -> int:
    try:
        jobs.convert(source, out, editor, timeout=0.5)
    except EditorError as error:
        return 7 if "gave no edits within 0.5 s" in str(error) else 8
    return 0


def _interrupted(source: Path, out: Path, editor: Broken) -> int:
    try:
        jobs.convert(source, out, editor)
    except KeyboardInterrupt:
        return 130
    return 0
