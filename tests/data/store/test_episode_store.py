from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from spie_robo.data import (
    EpisodeSink,
    EpisodeSource,
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    verify_store,
)
from spie_robo.data.store import durable, layout
from spie_robo.data.store import writer as writer_module
from spie_robo.data.store.metadata import CameraMetadata
from spie_robo.errors import StoreError, StoreLockedError
from spie_robo.files import atomic
from spie_robo.types import Geometry

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
episode, write, assert_same, edit_json = (
    shared[name] for name in ("episode", "write", "assert_same", "edit_json")
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    for name in ("CHUNK_BYTES", "FILE_BYTES", "FILE_BYTES_V2"):
        monkeypatch.setattr(layout, name, getattr(layout, name))
    shared["small_chunks"]()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_round_trip_over_two_writers(tmp_path, zarr_format):
    path = write(tmp_path / "new" / "s.zarr", range(3), zarr_format)
    write(path, range(3, 7))
    store = EpisodeStore.open(path)
    assert len(store) == 7
    for i, found in enumerate(store):
        assert_same(found, episode(i))
    assert_same(store[-1], episode(6))
    assert store.seeds.tolist() == list(range(7))
    assert (
        store.n_steps == store.episode_ends[-1] == sum(len(episode(i)["reward"]) for i in range(7))
    )
    middle = store.read_rows(2, 1, 3, ["action"])
    np.testing.assert_array_equal(middle["action"], episode(2)["action"][1:3])
    assert isinstance(store, EpisodeSource)
    with pytest.raises(IndexError, match="7 episodes"):
        store[7]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_zarr_reads_the_replay_buffer_layout(tmp_path, zarr_format):
    path = write(tmp_path / "s.zarr", range(4), zarr_format)
    root = zarr.open(path, mode="r")
    whole = [np.concatenate([episode(i)[key] for i in range(4)]) for key in episode(0)]
    ends = root["meta"]["episode_ends"][:]
    assert ends.dtype == np.int64
    assert ends.tolist() == np.cumsum([len(episode(i)["reward"]) for i in range(4)]).tolist()
    assert set(root["data"].keys()) == set(episode(0))
    for key, expected in zip(episode(0), whole, strict=True):
        array = root["data"][key]
        assert array.shape[0] == ends[-1]
        assert array.chunks[1:] == array.shape[1:]
        np.testing.assert_array_equal(array[:], expected)


def test_format_2_has_blosc_and_no_other_codec(tmp_path):
    path = write(tmp_path / "s.zarr", range(2), 2)
    descriptions = list(path.glob("data/*/.zarray"))
    assert len(descriptions) == len(episode(0))
    for file in descriptions:
        description = json.loads(file.read_text())
        assert description["zarr_format"] == 2
        assert description["compressor"]["id"] == "blosc"
        assert description["filters"] is None
        assert description["dimension_separator"] == "."
    assert not list(path.rglob("zarr.json"))


def test_format_3_is_sharded(tmp_path):
    path = write(tmp_path / "s.zarr", range(8))
    array = zarr.open(path, mode="r")["data/front_rgb"]
    assert (array.chunks[0], array.shards[0]) == (3, 12)
    files = [p for p in (path / "data" / "front_rgb" / "c").rglob("*") if p.is_file()]
    assert len(files) == -(-array.shape[0] // 12)


def test_steps_one_by_one_give_the_same_bytes_as_whole_episodes(tmp_path, monkeypatch):
    one = write(tmp_path / "one.zarr", range(2))
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 1)
    with EpisodeWriter.create(tmp_path / "two.zarr") as writer:
        assert isinstance(writer, EpisodeSink)
        for i in range(2):
            writer.begin_episode(i)
            for t in range(len(episode(i)["reward"])):
                writer.append({key: rows[t] for key, rows in episode(i).items()})
            writer.end_episode()
    for file in one.rglob("*"):
        if file.is_file():
            twin = tmp_path / "two.zarr" / file.relative_to(one)
            assert file.read_bytes() == twin.read_bytes(), file


def test_discarded_and_unfinished_episodes_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 1)
    path = write(tmp_path / "s.zarr", range(2))
    with pytest.raises(RuntimeError), EpisodeWriter.open(path) as writer:
        writer.begin_episode(99)
        writer.extend(episode(5))
        raise RuntimeError
    assert zarr.open(path, mode="r")["data/reward"].shape[0] == EpisodeStore.open(path).n_steps
    with EpisodeWriter.open(path) as writer:
        writer.begin_episode(99)
        writer.extend(episode(5))
        writer.discard_episode()
        writer.add_episode(episode(2), seed=2)
    for i, found in enumerate(EpisodeStore.open(path)):
        assert_same(found, episode(i))
    assert verify_store(path).ok


def test_a_reader_keeps_its_view_while_the_writer_goes_on(tmp_path):
    path = write(tmp_path / "s.zarr", range(2))
    store = EpisodeStore.open(path)
    write(path, range(2, 5))
    assert len(store) == 2
    for i, found in enumerate(store):
        assert_same(found, episode(i))


def test_what_is_not_a_store_is_named(tmp_path):
    with pytest.raises(StoreError, match="found nothing"):
        EpisodeStore.open(tmp_path / "no.zarr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"found a file.*spie-robo convert"):
        EpisodeStore.open(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"without zarr.json or .zgroup.*spie-robo convert"):
        EpisodeStore.open(tmp_path / "folder")
    zarr.create_group(tmp_path / "group.zarr").create_group("data")
    for open_it in (EpisodeStore.open, EpisodeWriter.open, verify_store):
        with pytest.raises(StoreError, match="without its commit record"):
            open_it(tmp_path / "group.zarr")
    path = write(tmp_path / "s.zarr", range(1))
    edit_json(path / "zarr.json", ["attributes", "schema_version"], 2)
    with pytest.raises(StoreError, match="expected schema version 1, found 2"):
        EpisodeStore.open(path)
    with pytest.raises(StoreError, match="already exists"):
        EpisodeWriter.create(path)


def test_one_writer_at_a_time_and_the_second_is_refused(tmp_path):
    path = tmp_path / "s.zarr"
    with EpisodeWriter.create(path):
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()} on host .* since 20"):
            EpisodeWriter.open(path)
        code = f"from spie_robo.data import EpisodeWriter; EpisodeWriter.open({str(path)!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "StoreLockedError" in other.stderr
        assert f"process {os.getpid()}" in other.stderr
        assert len(EpisodeStore.open(path)) == 0
    EpisodeWriter.open(path).close()


def test_everything_is_on_disk_before_the_commit_and_the_commit_comes_last(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", range(1))
    events = []
    write_synced, sync_directory = atomic.write_synced, durable.sync_directory
    synced = []  # a thread for each sync: zarr writes in several at once
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(threading.get_ident()))

    def watching_write(file, data):
        before = synced.count(threading.get_ident())
        write_synced(file, data)
        after = synced.count(threading.get_ident())
        assert after == before + 1, "renamed before it was on disk"
        events.append(("write", file.relative_to(path)))

    def watching_sync(directory):
        events.append(("sync", directory.relative_to(path)))
        sync_directory(directory)

    with EpisodeWriter.open(path) as writer:
        monkeypatch.setattr(atomic, "write_synced", watching_write)
        monkeypatch.setattr(durable, "sync_directory", watching_sync)
        writer.add_episode(episode(1))
    writes = [n for n, (kind, _) in enumerate(events) if kind == "write"]
    *data, commit = writes
    assert events[commit][1] == Path(".zarr.json.partial")
    assert events[-1] == ("sync", Path("."))
    changed = {events[n][1].parent for n in data}
    assert changed <= {where for kind, where in events[data[-1] + 1 : commit] if kind == "sync"}
    assert {"action", "front_rgb", "reward"} <= {p.parts[1] for p in changed if len(p.parts) > 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("action"), "action: expected .* got None"),
        (lambda e: e.update(extra=e["reward"]), "extra: expected None"),
        (lambda e: e.update(action=e["action"].astype(np.float64)), "float64"),
        (lambda e: e.update(action=e["action"][:, :3]), r"shape=\(3,\)"),
        (lambda e: e.update(action=e["action"][:0]), "same number of steps"),
        (lambda e: e.update(action=np.array(["x"] * len(e["reward"]))), "numbers or booleans"),
        (lambda e: e.update({"a/b": e["reward"]}), "letters, digits"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, change, message):
    path = write(tmp_path / "s.zarr", range(1))
    wrong = episode(1)
    change(wrong)
    with EpisodeWriter.open(path) as writer:
        with pytest.raises(StoreError, match=message):
            writer.add_episode(wrong)
        writer.add_episode(episode(1))
    assert_same(EpisodeStore.open(path)[1], episode(1))


def test_calls_out_of_order_are_refused(tmp_path):
    writer = EpisodeWriter.create(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="No episode is open"):
        writer.append({"a": 1.0})
    writer.begin_episode()
    with pytest.raises(StoreError, match="an episode is open"):
        writer.begin_episode()
    with pytest.raises(StoreError, match="at least one step"):
        writer.end_episode()
    writer.add_episode({"a": np.ones(2)})
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.begin_episode()
    assert EpisodeStore.open(writer.path).seeds.tolist() == [-1]


def test_metadata_is_committed_with_an_episode(tmp_path):
    geometry = Geometry(
        segmentation=np.zeros((16, 16), np.int32),
        names={0: "floor", 7: "cube"},
        intrinsics=np.array([[100.0, 0, 8], [0, 100.0, 8], [0, 0, 1]]),
    )
    with EpisodeWriter.create(tmp_path / "s.zarr", StoreMetadata(env_id="Env-v0")) as writer:
        writer.metadata = writer.metadata.including({"front": geometry})
        writer.add_episode(episode(0))
        other = Geometry(intrinsics=np.eye(3))
        with pytest.raises(StoreError, match="store of its own"):
            writer.metadata.including({"front": other})
        with pytest.raises(StoreError, match="plain JSON"):
            writer.metadata = StoreMetadata(provenance={"x": object()})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.metadata.env_id == store.attrs["metadata"]["env_id"] == "Env-v0"
    front = store.metadata.cameras["front"]
    assert front == CameraMetadata(((100, 0, 8), (0, 100, 8), (0, 0, 1)), {0: "floor", 7: "cube"})
    np.testing.assert_array_equal(front.intrinsics_array(), geometry.intrinsics)


def test_big_endian_and_strided_arrays_are_stored_as_equals(tmp_path):
    rows = np.arange(24, dtype=">f4").reshape(6, 4)[:, ::2]
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"a": rows})
    assert_same(EpisodeStore.open(tmp_path / "s.zarr")[0], {"a": rows.astype("<f4")})


def test_reading_imports_no_torch(tmp_path):
    path = write(tmp_path / "s.zarr", range(1))
    code = (
        "import sys, spie_robo.data; assert 'zarr' not in sys.modules\n"
        f"list(spie_robo.data.EpisodeStore.open({str(path)!r}))\n"
        "import spie_robo.data.store.verify, spie_robo.data.store.info\n"
        "import spie_robo.data.conversion.convert\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_in_small_steps_decodes_a_chunk_once_and_gives_arrays_of_ones_own(
    tmp_path, monkeypatch
):
    with EpisodeWriter.create(tmp_path / "a.zarr") as writer:
        writer.add_episode({"action": np.arange(5000.0).reshape(-1, 1)})
    store = EpisodeStore.open(tmp_path / "a.zarr")
    action, decoded = store.array("action"), []
    read_chunks = action._read_chunks
    monkeypatch.setattr(
        type(action), "_read_chunks", lambda _, a, b: decoded.append((a, b)) or read_chunks(a, b)
    )
    for size in (7, 700, 1024, 1500):
        decoded.clear()
        for start in range(0, 5000, size):
            rows = store.read_rows(0, start, min(start + size, 5000))["action"]
            np.testing.assert_array_equal(rows[:, 0], np.arange(start, min(start + size, 5000)))
            rows[:] = -1  # the caller's own
        assert sum(last - first + 1 for first, last in decoded) == action.n_chunks > 5
    np.testing.assert_array_equal(action.read(100, 200)[:, 0], np.arange(100, 200))
    np.testing.assert_array_equal(action.read(0, 150)[:, 0], np.arange(150))
