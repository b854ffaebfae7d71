"""SIGKILL at random points and at every write: nothing acknowledged is lost, nothing is wrong."""

from __future__ import annotations

import filecmp
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.errors import StoreError

NURSERY = Path(__file__).parents[1] / "nursery.py"
shared = runpy.run_path(str(NURSERY))
episode = shared["episode"]
KILLED = -signal.SIGKILL


class Nursery:
    """Runs jobs in children of one helper process; see ``nursery.py``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(NURSERY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.read() == "ready"

    def read(self) -> str:
        return self.process.stdout.readline().strip()

    def run(self, *, kill_after: float | None = None, **request: object) -> tuple[list[int], int]:
        """Acknowledged episodes and exit status of one job."""
        self.process.stdin.write(json.dumps(request, default=str) + "\n")
        self.process.stdin.flush()
        pid = int(self.read().removeprefix("pid "))
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        acknowledged = []
        while True:
            word, number = self.read().split()
            if word == "over":
                return acknowledged, int(number)
            acknowledged.append(int(number))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture(scope="module")
def nursery():
    it = Nursery()
    yield it
    it.close()


def assert_intact(path: Path, acknowledged: int, since: int = 0) -> int:
    """Check every committed episode from ``since`` on; returns how many there are."""
    if not path.exists():
        assert acknowledged == 0
        return 0
    store = EpisodeStore.open(path, allow_unfinished=True)
    assert len(store) >= acknowledged
    for i in range(since, len(store)):
        found, expected = store[i], episode(i)
        assert found.keys() == expected.keys()
        for key, rows in expected.items():
            assert found[key].dtype == rows.dtype
            np.testing.assert_array_equal(found[key], rows)
    assert list(store.seeds) == list(range(len(store)))
    assert since or verify_store(path).ok
    return len(store)


def assert_lengths(path: Path) -> None:
    """What plain zarr sees once a writer has been there: equal lengths everywhere."""
    root = zarr.open_group(path, mode="r")
    ends = root["meta/episode_ends"][:]
    lengths = {array.shape[0] for _, array in root["data"].arrays()}
    assert lengths <= {int(ends[-1]) if len(ends) else 0}
    assert not list(path.rglob("*.partial"))


def kill_randomly(nursery: Nursery, path: Path, zarr_format: int, kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    acknowledged = killed = 0
    patience = 1.0  # on a busy machine a writer needs longer to get anywhere
    for _ in range(kills):
        acks, status = nursery.run(
            job="write",
            path=path,
            zarr_format=zarr_format,
            episodes=10_000,
            kill_after=float(rng.uniform(0.01, 0.2)) * patience,
        )
        assert status == KILLED
        killed += 1
        patience = patience if acks else min(2 * patience, 60.0)
        acknowledged = max(acknowledged, *(a + 1 for a in acks), 0)
        there = assert_intact(path, acknowledged, since=max(0, acknowledged - len(acks) - 3))
        assert acks == list(range(acks[0], acks[0] + len(acks))) if acks else True
        acknowledged = max(acknowledged, there)
    assert killed == kills
    assert acknowledged > 0, "the writers were killed too early to show anything"
    with EpisodeWriter.open(path) as writer:
        assert writer.n_episodes == acknowledged
        writer.add_episode(episode(acknowledged), seed=acknowledged)
    assert assert_intact(path, acknowledged + 1) == acknowledged + 1
    assert_lengths(path)


def test_random_kills_lose_nothing(nursery, tmp_path):
    kill_randomly(nursery, tmp_path / "s.zarr", zarr_format=3, kills=20, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("zarr_format", "seed"), [(2, 1), (3, 2)])
def test_many_random_kills_lose_nothing(nursery, tmp_path, zarr_format, seed):
    kill_randomly(nursery, tmp_path / "s.zarr", zarr_format, kills=25, seed=seed)


def kill_at_writes(nursery: Nursery, folder: Path, zarr_format: int, events: range) -> bool:
    """Kill one writer at each event; True if the last one outlived its last write."""
    for event in events:
        path = folder / f"{event}.zarr"
        request = {"job": "write", "path": path, "zarr_format": zarr_format, "episodes": 3}
        acks, status = nursery.run(**request, die_at=event)
        assert status in (KILLED, 0)
        there = assert_intact(path, len(acks))
        rest, finished = nursery.run(**request)
        assert (finished, rest) == (0, list(range(there, 3)))
        assert assert_intact(path, 3) == 3
        assert_lengths(path)
        if status == 0:
            return True
    return False


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_kill_at_some_writes(nursery, tmp_path, zarr_format):
    kill_at_writes(nursery, tmp_path, zarr_format, range(11, 300, 97))


@pytest.mark.slow
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_kill_at_every_seventh_write(nursery, tmp_path, zarr_format):
    assert kill_at_writes(nursery, tmp_path, zarr_format, range(0, 10_000, 7))


def same_files(left: Path, right: Path) -> bool:
    files = sorted(p.relative_to(left) for p in left.rglob("*") if p.is_file())
    others = sorted(p.relative_to(right) for p in right.rglob("*") if p.is_file())
    _, mismatch, errors = filecmp.cmpfiles(left, right, files, shallow=False)
    return files == others and not mismatch and not errors


@pytest.fixture(scope="module")
def conversion(nursery, tmp_path_factory):
    """A source, and what an undisturbed conversion makes of it."""
    folder = tmp_path_factory.mktemp("conversion")
    source, whole = folder / "source.zarr", folder / "whole.zarr"
    assert nursery.run(job="write", path=source, zarr_format=3, episodes=4)[1] == 0
    assert nursery.run(job="convert", source=source, path=whole)[1] == 0
    return source, whole


def kill_conversions(nursery, conversion, folder: Path, events: range) -> bool:
    source, whole = conversion
    for event in events:
        out = folder / f"{event}.zarr"
        request = {"job": "convert", "source": source, "path": out}
        status = nursery.run(**request, die_at=event)[1]
        assert status in (KILLED, 0)
        if status == 0:
            assert same_files(out, whole)
            return True
        if out.exists() and not EpisodeStore.open(out, allow_unfinished=True).commit.complete:
            with pytest.raises(StoreError, match="unfinished conversion"):
                EpisodeStore.open(out)
        assert nursery.run(**request, batch_size=5)[1] == 0
        assert same_files(out, whole)
    return False


def test_conversion_killed_and_resumed_gives_the_same_bytes(nursery, conversion, tmp_path):
    assert_intact(conversion[0], 4)
    kill_conversions(nursery, conversion, tmp_path, range(170, 700, 211))


@pytest.mark.slow
def test_conversion_killed_at_many_writes_gives_the_same_bytes(nursery, conversion, tmp_path):
    assert kill_conversions(nursery, conversion, tmp_path, range(0, 10_000, 31))


def test_conversion_killed_twice_in_a_row(nursery, conversion, tmp_path):
    source, whole = conversion
    request = {"job": "convert", "source": source, "path": tmp_path / "out.zarr"}
    for _ in range(3):
        assert nursery.run(**request, die_at=210)[1] == KILLED
    assert nursery.run(**request)[1] == 0
    assert same_files(tmp_path / "out.zarr", whole)
