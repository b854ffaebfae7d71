"""Ray's workers come to harm: killed, out of memory, dead again and again over one block.

A child of this process starts Ray once and does trial after trial in it. Editors write down which
process edited what, so that a block that was made again shows.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faults_fakes as fakes
import faults_jobs as jobs
import numpy as np
from faults_jobs import Outcome

from spie_robo.data import ConversionConfig, EpisodeStore, convert_store
from spie_robo.data.conversion.ray_engine import ATTEMPTS, RayEngine
from spie_robo.errors import EditorError

EPISODES = 6
WORKERS = 2
BATCH = 2
PACE = 0.1
LIMIT = 600.0
"""Seconds after which a trial hangs; a machine that others use can take minutes for one."""
SPARE = 2 * 2**30
"""Bytes more than are in use now at which Ray's monitor of memory strikes."""


@dataclass(frozen=True)
class Scene:
    """What the trials of a session share.

    Attributes:
        source: The store to convert.
        expected: Files of the conversion that one undisturbed process made, by name.
        blocks: (episode, block) by the sign of a frame.
        duration: Seconds from the first worker's load to the end, undisturbed.
    """

    source: Path
    expected: Mapping[str, bytes]
    blocks: Mapping[int, tuple[int, int]]
    duration: float


Trial = Callable[[Path, Scene, np.random.Generator], dict[str, Any]]
"""Does one trial in a folder; tells whether it was one, and what was kept."""


def kill_ray_worker(folder: Path, seed: int, trials: int) -> Outcome:
    """SIGKILL of a worker at a random moment: the same bytes, one block made again at most."""
    lines, idle = _sessions(folder, seed, trials, _kill_one, {})
    again = sum(line.get("again", 0) for line in lines)
    return _outcome(lines, f"{again} blocks made again, {idle} ended before the kill")


def ray_out_of_memory(folder: Path, seed: int, trials: int) -> Outcome:
    """A worker fills the memory and Ray's monitor kills it: the same bytes."""
    lines, idle = _sessions(folder, seed, trials, _starve, {"RAY_memory_monitor_refresh_ms": "50"})
    again = sum(line.get("again", 0) for line in lines)
    detail = f"killed by Ray's memory monitor, {again} blocks made again, {idle} without a kill"
    return _outcome(lines, detail)


def ray_deadly_block(folder: Path, seed: int, trials: int) -> Outcome:
    """Every worker dies over one block: a named error, the episodes before it are kept."""
    lines, _ = _sessions(folder, seed, trials, _die_always, {})
    return _outcome(lines, f"given up after {ATTEMPTS} workers")


def _outcome(lines: list[dict[str, Any]], detail: str) -> Outcome:
    slowest = max(line.get("seconds", 0.0) for line in lines)
    failures = [line["problem"] for line in lines if line["problem"]]
    details = [detail, f"slowest trial {slowest:.0f} s", *failures[:3]]
    return Outcome(len(lines), len(lines) - len(failures), "; ".join(details))


def _sessions(
    folder: Path, seed: int, trials: int, attempt: Trial, settings: dict[str, str]
) -> tuple[list[dict[str, Any]], int]:
    """Do trials in one Ray after the other; a line each, and how many were none.

    A session may end before its last trial; one that dies or hangs costs the trial it was at.
    """
    source, whole, tally = (folder / name for name in ("source.zarr", "whole.zarr", "tally"))
    assert jobs.finish(jobs.start(jobs.record, source, EPISODES), LIMIT) == 0
    assert jobs.finish(jobs.start(jobs.convert, source, whole), LIMIT) == 0
    lines: list[dict[str, Any]] = []
    number = idle = 0
    while len(lines) < trials and idle < trials + 10:
        tally.write_text("")
        wanted = trials - len(lines)
        child = jobs.start(_session, folder, (seed, number, wanted), attempt, settings)
        status = jobs.finish(child, LIMIT * (2 * wanted + 2))
        found = [json.loads(line) for line in tally.read_text().splitlines()]
        number += len(found)
        idle += sum(not line["trial"] for line in found) + (not found)
        lines += [line for line in found if line["trial"]]
        if status != 0:
            number += 1
            lines.append({"problem": f"the driver died or hung: {status}"})
    return lines, idle


def _session(
    folder: Path, span: tuple[int, int, int], attempt: Trial, settings: dict[str, str]
) -> None:
    """Start Ray, and do trials (seed, first, how many) while the memory in use allows it."""
    os.environ.update(settings, PYTHONPATH=str(Path(__file__).parent), RAY_worker_niceness="0")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    total, ceiling = _total(), _in_use() + SPARE
    if settings:
        os.environ["RAY_memory_usage_threshold"] = f"{ceiling / total:.4f}"
    import ray

    ray.init(
        address="local",
        num_cpus=WORKERS,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    scene, (seed, first, wanted) = _scene(folder), span
    for number in range(first, first + 2 * wanted):
        if settings and not SPARE / 3 < ceiling - _in_use() < 1.25 * SPARE:
            break  # others need more or less than before: the monitor would strike amiss
        began = time.monotonic()
        trial = _fresh(folder / "trial")
        try:
            with _limit():
                line = attempt(trial, scene, np.random.default_rng([seed, number]))
        except (_HangError, Exception) as error:
            line = {"trial": True, "problem": f"trial {number}: {error!r:.300}"}
        line["seconds"] = time.monotonic() - began
        with (folder / "tally").open("a") as file:
            file.write(json.dumps(line) + "\n")
        wanted -= line["trial"]
        if not wanted:
            break
    ray.shutdown()


def _scene(folder: Path) -> Scene:
    source = folder / "source.zarr"
    blocks = {
        fakes.sign(rgb): (i, step // BATCH)
        for i, rows in enumerate(EpisodeStore.open(source))
        for step, rgb in enumerate(rows["front_rgb"])
    }
    trial = _fresh(folder / "trial")
    expected = jobs.files(folder / "whole.zarr")
    _convert(source, trial, fakes.Watched, PACE)
    duration = time.time() - min(f.stat().st_mtime for f in (trial / "workers").iterdir())
    scene = Scene(source, expected, blocks, duration)
    again, problem = _check(trial, scene)
    assert (again, problem) == (0, ""), problem
    return scene


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    (path / "workers").mkdir(parents=True)
    return path


def _convert(source: Path, trial: Path, kind: type[fakes.Watched], *arguments: Any) -> None:
    load = partial(fakes.load, kind, trial, *arguments)
    options = ConversionConfig(batch_size=BATCH, seed=3)
    with RayEngine(load, WORKERS) as engine:
        convert_store(source, trial / "out.zarr", engine, options, progress=False)


def _check(trial: Path, scene: Scene, only: int | None = None) -> tuple[int, str]:
    """Blocks that were made again, and what is wrong.

    Args:
        trial: Folder of the trial.
        scene: What it should be like.
        only: The process that was killed; None if several may have been.
    """
    begun: dict[int, list[tuple[int, int]]] = {}
    for line in (trial / "calls").read_text().splitlines():
        process, sign = map(int, line.split())
        block = scene.blocks[sign]
        done = begun.setdefault(process, [])
        if not done or done[-1] != block:  # a second attempt at its frames is the same block
            done.append(block)
    makers: dict[tuple[int, int], list[int]] = {}
    for process, done in begun.items():
        for block in done:
            makers.setdefault(block, []).append(process)
    again = sum(len(processes) - 1 for processes in makers.values())
    if set(makers) != set(scene.blocks.values()):
        return again, "a block was not made"
    for block, processes in makers.items():
        unfinished = [p for p in processes if begun[p][-1] == block and only in (None, p)]
        if len(processes) - 1 > len(unfinished):
            return again, f"block {block} was made again by {processes}"
    found = jobs.files(trial / "out.zarr")
    differing = sorted(dict(found.items() ^ scene.expected.items()))
    return again, f"other bytes in {differing[:3]}" if differing else ""


def _kill_one(trial: Path, scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    over = threading.Event()
    killed: list[int] = []
    killer = threading.Thread(target=_kill_later, args=(trial, scene, rng, over, killed))
    killer.start()
    try:
        _convert(scene.source, trial, fakes.Watched, PACE)
    finally:
        over.set()
        killer.join()
    again, problem = _check(trial, scene, *killed)
    return {"trial": bool(killed), "again": again, "problem": problem}


def _kill_later(
    trial: Path, scene: Scene, rng: np.random.Generator, over: threading.Event, killed: list[int]
) -> None:
    """Wait for the first worker, then a random while, and kill one of those there are."""
    while not (workers := _workers(trial)):
        if over.wait(0.005):
            return
    if over.wait(float(rng.uniform(0, scene.duration))):
        return
    workers = _workers(trial)
    victim = workers[int(rng.integers(len(workers)))]
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:  # stopped, as the work is done
        return
    killed.append(victim)


def _workers(trial: Path) -> list[int]:
    return sorted(int(file.name) for file in (trial / "workers").iterdir())


def _starve(trial: Path, scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    _convert(scene.source, trial, fakes.Greedy, PACE, _victim(scene, rng))
    again, problem = _check(trial, scene)
    real = (trial / "greedy").exists() and not (trial / "gave_up").exists()
    return {"trial": real, "again": again, "problem": problem}


def _die_always(trial: Path, scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    victim = _victim(scene, rng)
    episode, block = scene.blocks[victim]
    problem, out = "no error", trial / "out.zarr"
    try:
        _convert(scene.source, trial, fakes.Deadly, PACE, victim)
    except EditorError as error:
        wanted = (f"episode {episode}, steps {block * BATCH} to", f"{ATTEMPTS} workers died over")
        problem = "" if all(words in str(error) for words in wanted) else str(error)
    state = jobs.state(out)
    if not problem and (state["episodes"] != episode or not state["ok"]):
        problem = f"{state} after episode {episode}"
    if not problem:
        jobs.convert(scene.source, out)
        problem = "" if jobs.files(out) == scene.expected else "other bytes"
    return {"trial": True, "problem": problem}


def _victim(scene: Scene, rng: np.random.Generator) -> int:
    """The sign of a random frame."""
    return sorted(scene.blocks)[int(rng.integers(len(scene.blocks)))]


class _HangError(BaseException):
    """A trial took too long; nothing that suppresses errors may take it for one."""


@contextmanager
def _limit() -> Iterator[None]:
    def late(number: int, frame: object) -> None:
        raise _HangError(f"over {LIMIT:.0f} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _memory() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _total() -> int:
    return _memory()["MemTotal"]


def _in_use() -> int:
    memory = _memory()
    return memory["MemTotal"] - memory["MemAvailable"]
