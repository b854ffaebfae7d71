"""A store against a list of dicts: whatever order things happen in, both hold the same episodes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.store import layout
from spie_robo.errors import StoreError

DTYPES = ("uint8", "int32", "int64", "float32", "float64", "bool")
MANY = int(os.environ.get("SPIE_ROBO_STATEFUL_EXAMPLES", "6"))
"""Runs of the machine; the suite does few, a long night may do thousands."""

rows = st.dictionaries(
    st.sampled_from(["action", "front_rgb", "state", "x_1"]),
    st.tuples(
        st.sampled_from(DTYPES),
        st.lists(st.integers(1, 5), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=3,
)


def make(formats: dict[str, tuple[str, tuple[int, ...]]], steps: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        key: rng.integers(0, 2 if dtype == "bool" else 100, (steps, *shape)).astype(dtype)
        for key, (dtype, shape) in formats.items()
    }


class StoreMachine(RuleBasedStateMachine):
    """Appends, reopens, dies and reads; ``self.model`` says what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "s.zarr"
        self.model: list[tuple[int, dict]] = []

    @initialize(formats=rows, zarr_format=st.sampled_from([2, 3]))
    def create(self, formats, zarr_format):
        self.formats = formats
        self.writer = EpisodeWriter.create(self.path, zarr_format=zarr_format)

    @rule(steps=st.integers(1, 9), seed=st.integers(0, 2**31), parts=st.integers(1, 3))
    def append(self, steps, seed, parts):
        arrays = make(self.formats, steps, seed)
        self.writer.begin_episode(seed)
        for index in np.array_split(np.arange(steps), parts):
            if len(index):
                self.writer.extend({key: value[index] for key, value in arrays.items()})
        self.writer.end_episode()
        self.model.append((seed, arrays))

    @rule(steps=st.integers(1, 9))
    def discard(self, steps):
        self.writer.begin_episode()
        self.writer.extend(make(self.formats, steps, 0))
        self.writer.discard_episode()

    @rule(steps=st.integers(1, 9), committed=st.booleans())
    def die(self, steps, committed):
        """Leave rows beyond the commit behind, as a kill would, and open the store anew."""
        episode = self.writer._disk.begin_episode(5)
        arrays = make(self.formats, steps, 7)
        self.writer._check_rows(episode, arrays)
        self.writer._disk.write_rows(episode, arrays)
        if committed:
            self.writer._disk.commit_episode(episode, self.writer.metadata)
            self.model.append((5, arrays))
        self.writer._lock.release()  # what the system does for the dead
        (self.path / "data" / ".x.partial").write_bytes(b"half")
        self.writer = EpisodeWriter.open(self.path)
        assert not list(self.path.rglob("*.partial"))

    @rule()
    def reopen(self):
        self.writer.close()
        self.writer = EpisodeWriter.open(self.path)

    @precondition(lambda self: self.model)
    @rule(steps=st.integers(1, 3))
    def refuse_other_rows(self, steps):
        before = EpisodeStore.open(self.path).fingerprint()
        other = {key: (dtype, (*shape, 7)) for key, (dtype, shape) in self.formats.items()}
        with pytest.raises(StoreError, match="same keys, types and shapes"):
            self.writer.add_episode(make(other, steps, 0))
        assert EpisodeStore.open(self.path).fingerprint() == before

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read_some_rows(self, data):
        number = data.draw(st.integers(0, len(self.model) - 1))
        arrays = self.model[number][1]
        length = len(next(iter(arrays.values())))
        start = data.draw(st.integers(0, length))
        stop = data.draw(st.integers(start, length))
        found = EpisodeStore.open(self.path).read_rows(number, start, stop)
        self._assert_same(found, {key: value[start:stop] for key, value in arrays.items()})

    @invariant()
    def everything_is_there(self):
        if not self.path.exists():
            return
        store = EpisodeStore.open(self.path)
        assert store.seeds.tolist() == [seed for seed, _ in self.model]
        assert store.n_steps == sum(len(next(iter(a.values()))) for _, a in self.model)
        if self.model:
            self._assert_same(store[-1], self.model[-1][1])

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            assert verify_store(self.path).ok
            store = EpisodeStore.open(self.path)
            assert len(store) == len(self.model)
            for found, (_, expected) in zip(store, self.model, strict=True):
                self._assert_same(found, expected)
        shutil.rmtree(self.folder)

    def _assert_same(self, found, expected):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)


def test_a_store_holds_what_was_committed_and_nothing_else(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 64)  # rows of a few bytes: chunks of a few rows
    monkeypatch.setattr(layout, "FILE_BYTES", 256)
    monkeypatch.setattr(layout, "FILE_BYTES_V2", 64)
    StoreMachine.TestCase.settings = settings(
        max_examples=MANY,
        stateful_step_count=12,
        deadline=None,
        derandomize=MANY < 10,
        suppress_health_check=list(HealthCheck),
    )
    StoreMachine.TestCase("runTest").runTest()
