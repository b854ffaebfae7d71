from __future__ import annotations

import errno
import json
import os
import runpy
import shutil
import subprocess
import sys
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
    durable,
    layout,
    verify_store,
)
from spie_robo.data import (
    writer as writer_module,
)
from spie_robo.data.metadata import CameraMetadata
from spie_robo.errors import StoreCorruptError, StoreError, StoreLockedError
from spie_robo.types import Geometry

shared = runpy.run_path(str(Path(__file__).with_name("nursery.py")))
episode = shared["episode"]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    for name in ("CHUNK_BYTES", "FILE_BYTES", "FILE_BYTES_V2"):
        monkeypatch.setattr(layout, name, getattr(layout, name))
    shared["small_chunks"]()


def write(path: Path, episodes: range, zarr_format: int = 3) -> Path:
    new = not path.exists()
    opened = (
        EpisodeWriter.create(path, zarr_format=zarr_format) if new else EpisodeWriter.open(path)
    )
    with opened as writer:
        for i in episodes:
            writer.add_episode(episode(i), seed=i)
    return path


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert found[key].dtype == rows.dtype
        np.testing.assert_array_equal(found[key], rows)


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


def chunk_files(path: Path) -> list[Path]:
    return [
        p
        for p in sorted(path.joinpath("data").rglob("*"))
        if p.is_file() and not p.name.startswith((".z", "zarr.json"))
    ]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_flipped_bit_never_reads_as_a_frame(tmp_path, zarr_format):
    path = write(tmp_path / "s.zarr", range(2), zarr_format)
    rng = np.random.default_rng(0)
    harmless = 0
    files = chunk_files(path)
    for file in files:
        intact = file.read_bytes()
        damaged = bytearray(intact)
        position = int(rng.integers(len(intact)))
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            for i, found in enumerate(EpisodeStore.open(path)):
                assert_same(found, episode(i))
            harmless += 1  # a byte that no decoder looks at
            assert verify_store(path).ok
        except StoreCorruptError as error:
            assert "verify" in str(error)
            report = verify_store(path)
            assert not report.ok
            assert report.problems[0] in str(report)
        file.write_bytes(intact)
    assert harmless < len(files) / 4
    assert verify_store(path).ok


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_deleted_chunk_is_found_even_where_it_was_all_zeros(tmp_path, zarr_format):
    path = write(tmp_path / "s.zarr", range(2), zarr_format)
    files = chunk_files(path)
    assert any("reward" in str(file) for file in files)
    for file in files:
        intact = file.read_bytes()
        file.unlink()
        with pytest.raises(StoreCorruptError, match="is missing"):
            list(EpisodeStore.open(path))
        assert len(verify_store(path).problems) >= 1
        file.write_bytes(intact)


def test_an_older_copy_of_a_chunk_fails_its_checksum(tmp_path):
    path = write(tmp_path / "s.zarr", range(1))
    older = {file: file.read_bytes() for file in chunk_files(path)}
    write(path, range(1, 3))
    file = next(file for file in older if "front_rgb" in str(file))
    file.write_bytes(older[file])
    with pytest.raises(StoreCorruptError):
        list(EpisodeStore.open(path))


def test_damage_outside_the_data(tmp_path):
    whole = write(tmp_path / "whole.zarr", range(3))
    for number, damage in enumerate(
        [
            lambda p: (p / "zarr.json").write_text("{"),
            lambda p: _edit_json(p / "zarr.json", ["attributes", "commit", "steps"], 3),
            lambda p: _edit_json(p / "zarr.json", ["attributes", "commit"], {}),
            lambda p: _edit_json(p / "zarr.json", ["attributes", "metadata", "env_id"], "x"),
            lambda p: _edit_json(p / "data/action/zarr.json", ["shape"], [1, 7]),
            lambda p: _edit_json(p / "data/action/zarr.json", ["data_type"], "int32"),
            lambda p: (p / "data/action/zarr.json").unlink(),
            lambda p: shutil.rmtree(p / "meta"),
            lambda p: shutil.rmtree(p / "meta/episode_ends/c"),
            lambda p: shutil.rmtree(p / "meta/chunk_crc32/c"),
        ]
    ):
        path = tmp_path / f"{number}.zarr"
        shutil.copytree(whole, path)
        damage(path)
        with pytest.raises(StoreCorruptError):
            list(EpisodeStore.open(path))
        assert not verify_store(path).ok, number


def _edit_json(file: Path, keys: list[str], value: object) -> None:
    document = json.loads(file.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_writer_refuses_damaged_metadata(tmp_path, zarr_format):
    path = write(tmp_path / "s.zarr", range(1), zarr_format)
    name = {2: ".zarray", 3: "zarr.json"}[zarr_format]
    for damage in ("", "{", "[]", '{"zarr_format": 9}', "\x00"):
        for key in ("data/action", "meta/seeds"):
            file = path / key / name
            intact = file.read_text()
            file.write_text(damage)
            with pytest.raises(StoreCorruptError):
                EpisodeWriter.open(path)
            with pytest.raises(StoreCorruptError):
                list(EpisodeStore.open(path))
            file.write_text(intact)
    EpisodeWriter.open(path).close()


def test_what_is_not_a_store_is_named(tmp_path):
    with pytest.raises(StoreError, match="found nothing"):
        EpisodeStore.open(tmp_path / "no.zarr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="found a file"):
        EpisodeStore.open(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"without zarr.json or .zgroup"):
        EpisodeStore.open(tmp_path / "folder")
    zarr.create_group(tmp_path / "group.zarr").create_group("data")
    for open_it in (EpisodeStore.open, EpisodeWriter.open, verify_store):
        with pytest.raises(StoreError, match="without its commit record"):
            open_it(tmp_path / "group.zarr")
    path = write(tmp_path / "s.zarr", range(1))
    _edit_json(path / "zarr.json", ["attributes", "schema_version"], 2)
    with pytest.raises(StoreError, match="expected schema version 1, found 2"):
        EpisodeStore.open(path)
    with pytest.raises(StoreError, match="already exists"):
        EpisodeWriter.create(path)


def test_one_writer_at_a_time_and_the_second_is_told(tmp_path):
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


class FullDisk:
    """Lets ``room`` more files through, then writes half of one and fails."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = durable.write_synced

    def __call__(self, path: Path, data: object) -> None:
        if self.room <= 0:
            path.write_bytes(bytes(data)[: len(bytes(data)) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.room -= 1
        self.write(path, data)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_full_disk_at_any_write(tmp_path, monkeypatch, zarr_format):
    original = durable.write_synced
    room, failures = 0, 0
    path = write(tmp_path / "s.zarr", range(1), zarr_format)
    with EpisodeWriter.open(path) as writer:
        while writer.n_episodes < 3:
            count = writer.n_episodes
            monkeypatch.setattr(durable, "write_synced", FullDisk(room))
            try:
                writer.add_episode(episode(count), seed=count)
                room = 0
            except StoreError as error:
                assert str(path) in str(error)
                assert "No space left" in str(error)
                assert "Free space" in str(error)
                failures += 1
                room += 9
            monkeypatch.setattr(durable, "write_synced", original)
            there = EpisodeStore.open(path)
            assert len(there) >= count
            assert_same(there[-1], episode(len(there) - 1))
    assert failures > 3
    for i, found in enumerate(EpisodeStore.open(path)):
        assert_same(found, episode(i))
    assert verify_store(path).ok
    assert not list(path.rglob("*.partial"))


def test_a_full_disk_while_creating_leaves_no_store(tmp_path, monkeypatch):
    original = durable.write_synced
    for room in range(6):
        monkeypatch.setattr(durable, "write_synced", FullDisk(room))
        with pytest.raises(StoreError, match="No space left"):
            EpisodeWriter.create(tmp_path / "s.zarr")
        monkeypatch.setattr(durable, "write_synced", original)
        assert not (tmp_path / "s.zarr").exists()
        assert not list(tmp_path.glob("*.creating"))


def test_everything_is_on_disk_before_the_commit_and_the_commit_comes_last(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", range(1))
    events = []
    write_synced, sync_directory = durable.write_synced, durable.sync_directory
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)

    def watching_write(file, data):
        before = len(synced)
        write_synced(file, data)
        assert len(synced) == before + 1, "renamed before it was on disk"
        events.append(("write", file.relative_to(path)))

    def watching_sync(directory):
        events.append(("sync", directory.relative_to(path)))
        sync_directory(directory)

    with EpisodeWriter.open(path) as writer:
        monkeypatch.setattr(durable, "write_synced", watching_write)
        monkeypatch.setattr(durable, "sync_directory", watching_sync)
        writer.add_episode(episode(1))
    writes = [n for n, (kind, _) in enumerate(events) if kind == "write"]
    *data, commit = writes
    assert events[commit][1] == Path(".zarr.json.partial")
    assert events[-1] == ("sync", Path("."))
    changed = {events[n][1].parent for n in data}
    assert changed <= {where for kind, where in events[data[-1] + 1 : commit] if kind == "sync"}
    assert {"action", "front_rgb", "reward"} <= {p.parts[1] for p in changed if len(p.parts) > 1}


def test_a_file_size_limit_of_the_system_is_a_store_error(tmp_path):
    code = (
        "import resource, signal, numpy as np\n"
        "from spie_robo.data import EpisodeWriter\n"
        f"w = EpisodeWriter.create({str(tmp_path / 's.zarr')!r})\n"
        "w.add_episode({'a': np.zeros((4, 10))})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "w.add_episode({'a': np.random.default_rng(0).random((1000, 10))})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "StoreError: Cannot write" in done.stderr
    assert "data/a/" in done.stderr
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert (len(store), store.n_steps) == (1, 4)
    assert verify_store(store.path).ok


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
        "import spie_robo.data.verify, spie_robo.data.info, spie_robo.data.convert\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
