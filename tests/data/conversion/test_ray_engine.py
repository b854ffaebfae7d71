from __future__ import annotations

import hashlib
import os
import runpy
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from spie_robo.data import (
    ConversionConfig,
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    convert_store,
)
from spie_robo.data.conversion.engine import Block, EditTask
from spie_robo.data.conversion.ray_engine import RayEngine, _divide
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, EditorError, StoreError

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
SwapEditor, EvenGuard, episode = (shared[n] for n in ("SwapEditor", "EvenGuard", "episode"))
EPISODES = 5


def trouble(flag: Path, victim: int, deadly: bool):
    """An editor and a guard; a frame whose first pixel is ``victim`` is trouble."""

    class Troubled(SwapEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            with flag.with_suffix(".log").open("a") as log:
                log.write("".join(f"{int(f.rgb[0, 0, 0])} " for f in frames) + "\n")
            if any(int(frame.rgb[0, 0, 0]) == victim for frame in frames):
                if not deadly:
                    raise RuntimeError("out of memory")
                if not flag.exists():
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().edit(frames, references, instruction, seeds)

    return GuardedEditor(Troubled(), EvenGuard())


def healthy():
    return GuardedEditor(SwapEditor(), EvenGuard())


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # else a busy machine starves the workers
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "sim.zarr"
    with EpisodeWriter.create(path) as writer:
        for i in range(EPISODES):
            arrays = episode(i)
            arrays["front_rgb"][:, 0, 0, 0] = 10 * i  # says which episode a frame is of
            writer.add_episode(arrays, seed=i)
    return path


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "out.zarr"
    convert_store(source, out, healthy(), ConversionConfig(batch_size=2), progress=False)
    return files(out)


def files(path: Path) -> dict[str, str]:
    found = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def run(source, out, load, workers=2):
    with RayEngine(load, workers) as engine:
        options = ConversionConfig(batch_size=2)
        return convert_store(source, out, engine, options, progress=False)


@pytest.mark.slow
def test_workers_give_the_bytes_of_one_process_and_resume_its_work(
    cluster, source, expected, tmp_path
):
    summary = run(source, tmp_path / "out.zarr", healthy)
    assert summary.episodes == EPISODES
    assert files(tmp_path / "out.zarr") == expected
    load = partial(trouble, tmp_path / "flag", 30, False)
    with pytest.raises(EditorError, match="out of memory"):
        convert_store(
            source, tmp_path / "two.zarr", load(), ConversionConfig(batch_size=2), progress=False
        )
    assert run(source, tmp_path / "two.zarr", healthy).resumed_at == 3
    assert files(tmp_path / "two.zarr") == expected


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_block_only(cluster, source, expected, tmp_path):
    flag = tmp_path / "flag"
    run(source, tmp_path / "out.zarr", partial(trouble, flag, 20, True))
    assert flag.exists()
    assert files(tmp_path / "out.zarr") == expected
    calls = flag.with_suffix(".log").read_text().split("\n")
    steps = [len(episode(i)["reward"]) for i in range(EPISODES)]
    # First attempts only: how often each episode's blocks were begun, beyond once.
    again = {
        i: sum(line.split().count(str(10 * i)) for line in calls) - steps[i]
        for i in range(EPISODES)
    }
    rejected = {i: int((episode(i)["front_rgb"][:, 0, 1, 2] % 2).sum()) for i in range(EPISODES)}
    assert again[2] == rejected[2] + 2  # the two frames of the block that the worker died over
    assert all(again[i] == rejected[i] for i in range(EPISODES) if i != 2)


@pytest.mark.slow
def test_an_editor_that_fails_or_kills_every_worker_is_an_error(cluster, source, tmp_path):
    with pytest.raises(EditorError, match="out of memory"):
        run(source, tmp_path / "one.zarr", partial(trouble, tmp_path / "flag", 30, False))
    with pytest.raises(StoreError, match="unfinished conversion with 3 episodes"):
        EpisodeStore.open(tmp_path / "one.zarr")

    class Deadly(SwapEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(EditorError, match=r"episode 0, steps 0 to 1: 3 workers died over it"):
        run(source, tmp_path / "two.zarr", lambda: GuardedEditor(Deadly()), workers=1)

    def absent():
        raise EditorError("no such editor: ghost")

    with pytest.raises(EditorError, match=r"^no such editor: ghost$"):
        run(source, tmp_path / "three.zarr", absent)
    assert not (tmp_path / "three.zarr").exists()
    with pytest.raises(ConfigError, match="at most 2, one a core, got 3"):
        run(source, tmp_path / "four.zarr", healthy, workers=3)


@pytest.mark.slow
def test_a_worker_whose_editor_hangs_is_replaced(cluster, source, expected, tmp_path):
    flag = tmp_path / "flag"

    class Sleepy(SwapEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            if int(frames[0].rgb[0, 0, 0]) == 20 and not flag.exists():
                flag.touch()
                time.sleep(600)
            return super().edit(frames, references, instruction, seeds)

    with RayEngine(lambda: replace(healthy(), editor=Sleepy()), 2, timeout=3.0) as engine:
        options = ConversionConfig(batch_size=2)
        convert_store(source, tmp_path / "out.zarr", engine, options)
    assert flag.exists()
    assert files(tmp_path / "out.zarr") == expected

    class Hanging(SwapEditor):
        def edit(self, frames, references=None, instruction=None, seeds=None):
            time.sleep(600)

    with (
        pytest.raises(EditorError, match=r"3 workers died over it.* gave no edits within 1 s"),
        RayEngine(lambda: GuardedEditor(Hanging()), 1, timeout=0.5) as engine,
    ):
        out = tmp_path / "two.zarr"
        convert_store(source, out, engine, options, progress=False)


def test_workers_are_one_a_gpu_or_as_many_as_the_threads_allow():
    assert _divide({"CPU": 16.0}, None, 4) == (4, {"num_cpus": 1})
    assert _divide({"CPU": 16.0}, 16, 4) == (16, {"num_cpus": 1})
    assert _divide({"CPU": 2.0}, None, 4)[0] == 1
    assert _divide({"CPU": 16.0, "GPU": 2.0}, None, 4) == (2, {"num_gpus": 1, "num_cpus": 0})
    with pytest.raises(ConfigError, match="at most 2, one a GPU"):
        _divide({"CPU": 16.0, "GPU": 2.0}, 3, 1)


@pytest.mark.slow
def test_ctrl_c_stops_the_workers(cluster, source, tmp_path):
    class Signing(SwapEditor):
        def edit(self, *arguments, **named):
            (tmp_path / str(os.getpid())).touch()
            return super().edit(*arguments, **named)

    task = EditTask(StoreMetadata(), ("front",))
    rows = {"front_rgb": np.zeros((2, 16, 16, 3), np.uint8)}
    blocks = (Block(i, 0, rows, last=True) for i in range(10**9))  # more than anyone can edit
    with pytest.raises(KeyboardInterrupt), RayEngine(lambda: GuardedEditor(Signing()), 2) as engine:
        for block, _ in engine.edit(task, blocks):
            if block.episode == 20:
                raise KeyboardInterrupt
    workers = [int(file.name) for file in tmp_path.iterdir()]
    assert workers
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
