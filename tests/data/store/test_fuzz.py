"""Readers given damaged and hostile stores: the data or a SpieRoboError, and nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import struct
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.frames import sample_frames
from spie_robo.data.store import headers, layout
from spie_robo.data.store.headers import require_inside
from spie_robo.errors import FrameError, SpieRoboError, StoreCorruptError

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
episode, write, edit_json = (shared[name] for name in ("episode", "write", "edit_json"))
EXAMPLES = int(os.environ.get("SPIE_ROBO_FUZZ_EXAMPLES", "25"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in ("CHUNK_BYTES", "FILE_BYTES", "FILE_BYTES_V2"):
        monkeypatch.setattr(layout, name, getattr(layout, name))
    shared["small_chunks"]()


@pytest.fixture(params=[2, 3])
def store(request, tmp_path):
    return write(tmp_path / "s.zarr", range(2), request.param)


def all_files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def damaged(data: st.DataObject, path: Path) -> tuple[Path, bytes]:
    """Damage one file below ``path``; returns it and what it held."""
    file = data.draw(st.sampled_from(all_files(path)))
    intact = file.read_bytes()
    broken = bytearray(intact)
    way = data.draw(st.sampled_from(["bytes", "cut", "delete", "insert"]))
    if way == "delete":
        file.unlink()
        return file, intact
    at = data.draw(st.integers(0, max(0, len(broken) - 1)))
    some = data.draw(st.binary(min_size=1, max_size=8))
    if way == "bytes":
        broken[at : at + len(some)] = some[: len(broken) - at]
    elif way == "cut":
        del broken[at:]
    else:
        broken[at:at] = some
    file.write_bytes(broken)
    return file, intact


def test_a_damaged_store_gives_its_episodes_or_a_named_error(store):
    expected = list(EpisodeStore.open(store))

    @FUZZ
    @given(st.data())
    def run(data):
        file, intact = damaged(data, store)
        try:
            found = list(EpisodeStore.open(store))
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                assert a.keys() == b.keys()
                assert all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in b)
        except SpieRoboError:
            assert not verify_or_refuse(store)
        finally:
            file.write_bytes(intact)

    run()
    assert verify_store(store).ok


def verify_or_refuse(path: Path) -> bool:
    try:
        return verify_store(path).ok
    except SpieRoboError:
        return False


def test_a_writer_opens_a_damaged_store_or_refuses_by_name(store, tmp_path):
    copy = tmp_path / "copy.zarr"

    @FUZZ
    @given(st.data())
    def run(data):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        damaged(data, copy)
        try:
            with EpisodeWriter.open(copy) as writer:
                writer.add_episode(episode(2), seed=2)
        except SpieRoboError:
            return
        assert len(EpisodeStore.open(copy)) == 3

    run()


@pytest.mark.parametrize("name", ["diffusion-policy", "lerobot"])
def test_a_damaged_foreign_data_set_gives_arrays_or_a_named_error(tmp_path, name):
    """Such formats have no checksums: values may be wrong, but no other error may come out."""
    if name == "lerobot":
        pytest.importorskip("pyarrow"), pytest.importorskip("av")
    source = write(tmp_path / "s.zarr", range(2))
    path = tmp_path / "foreign"
    export_episodes(EpisodeStore.open(source), path, name, progress=False)

    @FUZZ
    @given(st.data())
    def run(data):
        file, intact = damaged(data, path)
        try:
            for rows in open_source(path, name):
                assert len({len(array) for array in rows.values()}) == 1
        except SpieRoboError:
            pass
        finally:
            file.write_bytes(intact)

    run()
    assert len(list(open_source(path))) == 2


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    "header",
    [
        {"compressor": {"id": "pickle"}},
        {"compressor": None, "filters": [{"id": "pickle"}]},
        {"filters": [{"id": "pickle"}]},
    ],
)
def test_a_pickle_codec_is_refused_before_it_runs(tmp_path, header):
    path = write(tmp_path / "s.zarr", range(2), 2)
    array = path / "data/action"
    for key, value in header.items():
        edit_json(array / ".zarray", [key], value)
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(StoreCorruptError, match="pickle"):
        list(EpisodeStore.open(path))
    with pytest.raises(StoreCorruptError, match="pickle"):
        EpisodeWriter.open(path)
    assert not verify_store(path).ok
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_claims_to_unpack_to_gigabytes_is_refused(tmp_path, monkeypatch, zarr_format):
    path = write(tmp_path / "s.zarr", range(1), zarr_format)
    steps = EpisodeStore.open(path).n_steps
    assert steps % 3, "the last chunk is not full: an append decodes it"
    monkeypatch.setattr(headers, "_require_size", lambda data, limit: sizes.append(limit))
    sizes: list[int] = []
    list(EpisodeStore.open(path))
    assert 3 * 16 * 16 * 3 in sizes  # every chunk asks, for frames of 16x16 three at a time
    monkeypatch.undo()
    blosc = numcodecs.Blosc("zstd")
    bomb = bytearray(blosc.encode(np.zeros(100, np.uint8)))
    bomb[4:8] = struct.pack("<I", 2**31 - 2**16)
    with pytest.raises(ValueError, match="claims to unpack to 2147418112 bytes"):
        headers._require_size(bytes(bomb), 100)
    if zarr_format == 2:
        for chunk in (path / "data/front_rgb").glob("[0-9]*"):
            chunk.write_bytes(bomb)
        with pytest.raises(StoreCorruptError, match="claims to unpack"):
            list(EpisodeStore.open(path))
        with EpisodeWriter.open(path) as writer, pytest.raises(StoreCorruptError, match="claims"):
            writer.add_episode(episode(1))


def test_absurd_headers_are_refused(tmp_path):
    whole = write(tmp_path / "whole.zarr", range(2))
    grid = ["chunk_grid", "configuration", "chunk_shape"]
    inner = {"name": "bytes", "configuration": {"endian": "little"}}
    for number, (keys, value) in enumerate(
        [
            (["shape"], [2**50, 16, 16, 3]),
            (grid, [2**40, 16, 16, 3]),
            (["data_type"], "float64"),
            (["codecs"], [inner]),
            (["shape"], []),
        ]
    ):
        path = tmp_path / f"{number}.zarr"
        shutil.copytree(whole, path)
        edit_json(path / "data/front_rgb/zarr.json", keys, value)
        with pytest.raises(StoreCorruptError):
            EpisodeWriter.open(path).add_episode(episode(2))
        if number:  # rows beyond the commit are an append that was cut short
            with pytest.raises(StoreCorruptError):
                list(EpisodeStore.open(path))
            assert not verify_store(path).ok


def test_a_link_out_of_a_store_is_not_followed(tmp_path):
    for number, name in enumerate(["data", "data/front_rgb", "data/front_rgb/c", "meta/seeds"]):
        path = write(tmp_path / f"{number}.zarr", range(2))
        outside = tmp_path / f"outside_{number}"
        (path / name).rename(outside)
        (path / name).symlink_to(outside)
        with pytest.raises(StoreCorruptError, match="link out of the store"):
            list(EpisodeStore.open(path))
        with pytest.raises(StoreCorruptError, match="link out of the store"):
            EpisodeWriter.open(path)
    path = write(tmp_path / "s.zarr", range(1))
    (tmp_path / "link.zarr").symlink_to(path)  # the store itself may be one
    assert len(EpisodeStore.open(tmp_path / "link.zarr")) == 1
    require_inside(path, path / "data")


def test_files_larger_than_a_store_has_are_not_read(tmp_path):
    path = write(tmp_path / "s.zarr", range(1))
    os.truncate(path / "data/front_rgb/zarr.json", 2**36)  # sparse: it takes no room
    with pytest.raises(StoreCorruptError, match="expected at most"):
        list(EpisodeStore.open(path))
    with pytest.raises(StoreCorruptError, match="expected at most"):
        EpisodeWriter.open(path)


def test_a_length_that_no_file_backs_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", range(1))
    file = path / "zarr.json"
    document = json.loads(file.read_text())
    from spie_robo.data.store import commit

    record = document["attributes"]["commit"]
    record.pop("crc32")
    record["episodes"] = 2**40
    checksum = commit.crc32(commit._canonical(record, document["attributes"]["metadata"]))
    record["crc32"] = checksum
    file.write_text(json.dumps(document))
    for name in ("episode_ends", "seeds"):
        edit_json(path / "meta" / name / "zarr.json", ["shape"], [2**40])
    with pytest.raises(StoreCorruptError, match="the commit record claims"):
        EpisodeStore.open(path)


def test_verify_looks_at_headers_that_no_read_needs(tmp_path):
    for zarr_format, name in ((2, ".zgroup"), (3, "zarr.json")):
        path = write(tmp_path / f"{zarr_format}.zarr", range(1), zarr_format)
        for damage in (None, b"", b"{", b'{"zarr_format": 9}'):
            file = path / "meta" / name
            intact = file.read_bytes()
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            assert any(str(file) in problem for problem in verify_store(path).problems)
            file.write_bytes(intact)
        assert verify_store(path).ok


def test_a_picture_that_claims_gigapixels_is_refused_by_name(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    (tmp_path / "a.png").write_bytes(start + bytes(4))
    with pytest.raises(FrameError, match=r"a\.png: cannot be read"):
        sample_frames(tmp_path, 1)
