"""Damaged stores, full disks: every one a named error, and never a wrong frame."""

from __future__ import annotations

import errno
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.store import layout
from spie_robo.data.store.appending import StoreOnDisk
from spie_robo.errors import StoreCorruptError, StoreError
from spie_robo.files import atomic

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


def test_every_bit_of_a_blosc_header_is_looked_at(tmp_path):
    path = write(tmp_path / "s.zarr", range(1), 2)
    block_size = set(range(8 * 8, 12 * 8))  # of no meaning where nothing became smaller
    for name, unread in (("reward/0", set()), ("front_rgb/0.0.0.0", block_size)):
        file = path / "data" / name
        intact = file.read_bytes()
        for bit in set(range(8 * 16)) - unread:
            damaged = bytearray(intact)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            assert not verify_store(path).ok, (file, bit)
        file.write_bytes(intact)
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


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_file_can_be_deleted_unnoticed(tmp_path, zarr_format):
    path = write(tmp_path / "s.zarr", range(2), zarr_format)
    assert verify_store(path).ok
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        intact = file.read_bytes()
        file.unlink()
        try:
            assert not verify_store(path).ok, file
        except StoreError:
            assert file.parent == path, file  # without its header it is no store
        file.write_bytes(intact)
    assert verify_store(path).ok


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
            lambda p: edit_json(p / "zarr.json", ["attributes", "commit", "steps"], 3),
            lambda p: edit_json(p / "zarr.json", ["attributes", "commit"], {}),
            lambda p: edit_json(p / "zarr.json", ["attributes", "metadata", "env_id"], "x"),
            lambda p: edit_json(p / "data/action/zarr.json", ["shape"], [1, 7]),
            lambda p: edit_json(p / "data/action/zarr.json", ["data_type"], "int32"),
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


class FullDisk:
    """Lets ``room`` more files through, then writes half of one and fails."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = atomic.write_synced

    def __call__(self, path: Path, data: object) -> None:
        if self.room <= 0:
            path.write_bytes(bytes(data)[: len(bytes(data)) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.room -= 1
        self.write(path, data)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_full_disk_at_any_write(tmp_path, monkeypatch, zarr_format):
    original = atomic.write_synced
    room, failures = 0, 0
    path = write(tmp_path / "s.zarr", range(1), zarr_format)
    with EpisodeWriter.open(path) as writer:
        while writer.n_episodes < 3:
            count = writer.n_episodes
            monkeypatch.setattr(atomic, "write_synced", FullDisk(room))
            try:
                writer.add_episode(episode(count), seed=count)
                room = 0
            except StoreError as error:
                assert str(path) in str(error)
                assert "No space left" in str(error)
                assert "Free space" in str(error)
                failures += 1
                room += 9
            monkeypatch.setattr(atomic, "write_synced", original)
            there = EpisodeStore.open(path)
            assert len(there) >= count
            assert_same(there[-1], episode(len(there) - 1))
    assert failures > 3
    for i, found in enumerate(EpisodeStore.open(path)):
        assert_same(found, episode(i))
    assert verify_store(path).ok
    assert not list(path.rglob("*.partial"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_failure_after_the_commit_does_not_add_the_episode_twice(
    tmp_path, monkeypatch, zarr_format
):
    path = write(tmp_path / "s.zarr", range(1), zarr_format)
    commit = StoreOnDisk.write_commit

    def fail(self, *arguments):
        commit(self, *arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    with EpisodeWriter.open(path) as writer:
        monkeypatch.setattr(StoreOnDisk, "write_commit", fail)
        with pytest.raises(StoreError, match="No space left"):
            writer.add_episode(episode(1), seed=1)
        monkeypatch.setattr(StoreOnDisk, "write_commit", commit)
        assert writer.n_episodes == 2
        writer.add_episode(episode(2), seed=2)
    assert len(EpisodeStore.open(path)) == 3
    for i, found in enumerate(EpisodeStore.open(path)):
        assert_same(found, episode(i))
    assert verify_store(path).ok


def test_a_full_disk_while_creating_leaves_no_store(tmp_path, monkeypatch):
    original = atomic.write_synced
    for room in range(6):
        monkeypatch.setattr(atomic, "write_synced", FullDisk(room))
        with pytest.raises(StoreError, match="No space left"):
            EpisodeWriter.create(tmp_path / "s.zarr")
        monkeypatch.setattr(atomic, "write_synced", original)
        assert not (tmp_path / "s.zarr").exists()
        assert not list(tmp_path.glob("*.creating"))


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
