"""Files made to do harm: refused by a named error, within a memory cap, nothing run or touched."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults_jobs as jobs
import numcodecs
import numpy as np
from faults_jobs import Outcome
from faults_pictures import EDITORS, PICTURES, Payload

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.store.checksums import crc32
from spie_robo.data.store.commit import _canonical
from spie_robo.errors import SpieRoboError

CAP_MIB = 1024
"""Memory that a hostile file may cost, beyond what the process had."""

EDITOR_CAP_MIB, EDITOR_SECONDS = 100, 1.0
"""Memory and time that a hostile editor may cost until it is refused."""

Case = Callable[[Path], Callable[[], Any]]
"""Makes a hostile file in a folder, and returns what opens it."""


def hostile(folder: Path, seed: int, trials: int) -> Outcome:
    """Each case in a child of its own: an error by name, the cap kept, the canary alive."""
    done, kept, worst, slowest = 0, 0, 0.0, 0.0
    failures = []
    for name, case in CASES.items():
        if (only := os.environ.get("SPIE_ROBO_FAULT_CASE")) and name not in only.split(","):
            continue
        done += 1
        place = folder / name.replace(" ", "_")
        place.mkdir()
        answer = jobs.ask(_attempt, case, place)
        refused, peak, seconds, what = answer if answer else (False, 0.0, 0.0, "the child died")
        good = refused and peak < CAP_MIB
        if case in EDITORS:
            good = good and peak < EDITOR_CAP_MIB and seconds < EDITOR_SECONDS
            slowest = max(slowest, seconds)
        worst = max(worst, peak)
        kept += good
        failures += [] if good else [f"{name}: {what}, +{peak:.0f} MiB, {seconds:.1f} s"]
    detail = "; ".join(failures) or (
        f"largest +{worst:.0f} MiB of {CAP_MIB} allowed; editors within {EDITOR_CAP_MIB} MiB and "
        f"{slowest:.2f} s of {EDITOR_SECONDS:.0f}"
    )
    return Outcome(done, kept, detail)


def _attempt(case: Case, place: Path) -> tuple[bool, float, float, str]:
    outside = place / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    inside = place / "inside"
    inside.mkdir()
    work = case(inside)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there = jobs.files(outside)
    refused, what = False, "it was accepted"
    began = time.perf_counter()
    try:
        work()
    except SpieRoboError as error:
        refused, what = True, type(error).__name__
    except Exception as error:
        what = f"{error!r:.100}"
    seconds = time.perf_counter() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if jobs.files(outside) != there or (place / "ran").exists():
        refused, what = False, "something was run or written"
    return refused, peak, seconds, what


def _store(folder: Path, zarr_format: int = 3) -> Path:
    path = folder / "s.zarr"
    EpisodeWriter.create(path, zarr_format=zarr_format).close()  # type: ignore[arg-type]
    jobs.record(path, 2)
    return path


def _read(path: Path) -> Callable[[], Any]:
    """Verify, read and append: all three must refuse; the error of the first is raised last."""

    def work() -> None:
        errors = []
        for action in (lambda: list(EpisodeStore.open(path)), lambda: jobs.record(path, 3)):
            try:
                action()
            except SpieRoboError as error:
                errors.append(error)
        assert not verify_store(path).ok, "verify finds nothing"
        if len(errors) == 2:
            raise errors[0]

    return work


def _edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def _forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the commit record and give it a checksum that fits: anybody can compute one."""
    file = path / "zarr.json" if (path / "zarr.json").exists() else path / ".zattrs"

    def forged(document: dict[str, Any]) -> None:
        attributes = document.get("attributes", document)
        record = dict(attributes["commit"])
        record.pop("crc32")
        change(record)
        attributes["commit"] = {
            **record,
            "crc32": crc32(_canonical(record, attributes["metadata"])),
        }

    _edit(file, forged)


def pickle_filter(folder: Path) -> Callable[[], Any]:
    path = _store(folder, 2)
    array = path / "data/action"
    _edit(array / ".zarray", lambda d: d.update(compressor=None, filters=[{"id": "pickle"}]))
    payload = pickle.dumps(Payload(folder.parent / "ran"))
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(payload)
    return _read(path)


def pickle_compressor(folder: Path) -> Callable[[], Any]:
    path = _store(folder, 2)
    array = path / "data/action"
    _edit(array / ".zarray", lambda d: d.update(compressor={"id": "pickle"}))
    payload = pickle.dumps(Payload(folder.parent / "ran"))
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(payload)
    return _read(path)


def strange_codec(folder: Path) -> Callable[[], Any]:
    path = _store(folder)

    def change(document: dict[str, Any]) -> None:
        document["codecs"][0]["configuration"]["codecs"] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 1}},
        ]

    _edit(path / "data/front_rgb/zarr.json", change)
    return _read(path)


def absurd_chunk(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    rows = 2**36

    def change(document: dict[str, Any]) -> None:
        document["chunk_grid"]["configuration"]["chunk_shape"][0] = rows
        document["codecs"][0]["configuration"]["chunk_shape"][0] = rows

    _edit(path / "data/front_rgb/zarr.json", change)
    _forge(path, lambda record: record["arrays"]["front_rgb"].update(chunk_rows=rows))
    return _read(path)


def absurd_steps(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    steps = 2**40
    for array in [*(path / "data").iterdir(), *(path / "meta").iterdir()]:
        if array.is_dir():
            _edit(array / "zarr.json", lambda d: d["shape"].__setitem__(0, steps))
    _forge(path, lambda record: record.update(steps=steps, checksums=steps))
    return _read(path)


def absurd_row(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    shape = [10**6, 10**6, 3]

    def change(document: dict[str, Any]) -> None:
        document["shape"][1:] = shape
        document["chunk_grid"]["configuration"]["chunk_shape"][1:] = shape
        document["codecs"][0]["configuration"]["chunk_shape"][1:] = shape

    _edit(path / "data/front_rgb/zarr.json", change)
    _forge(path, lambda record: record["arrays"]["front_rgb"].update(shape=shape))
    return _read(path)


def chunk_bomb(folder: Path) -> Callable[[], Any]:
    """A chunk of some kilobytes that unpacks to two gigabytes."""
    path = _store(folder, 2)
    part = numcodecs.Blosc("zstd", clevel=1, blocksize=2**20).encode(np.zeros(2**28, np.uint8))
    bomb = bytearray(part)
    bomb[4:8] = struct.pack("<I", 2**31 - 2**16)
    for chunk in (path / "data/front_rgb").glob("[0-9]*"):
        chunk.write_bytes(bomb)
    for chunk in (path / "data/action").glob("[0-9]*"):
        chunk.write_bytes(part)
    return _read(path)


def huge_file(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    for file in (path / "data").rglob("c/*/*"):
        if file.is_file():
            os.truncate(file, 2**40)
    for file in (path / "data/front_rgb").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            os.truncate(file, 2**40)
    return _read(path)


def huge_header(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    os.truncate(path / "data/front_rgb/zarr.json", 2**36)
    return _read(path)


def linked_array(folder: Path) -> Callable[[], Any]:
    path = _store(folder)
    other = folder.parent / "outside" / "front_rgb"
    (path / "data/front_rgb").rename(other)
    (path / "data/front_rgb").symlink_to(other)
    return _read(path)


def linked_chunk(folder: Path) -> Callable[[], Any]:
    path = _store(folder, 2)
    chunk = sorted((path / "data/front_rgb").glob("[0-9]*"))[0]
    other = folder.parent / "outside" / "chunk"
    chunk.rename(other)
    chunk.symlink_to(other)
    return _read(path)


def climbing_key(folder: Path) -> Callable[[], Any]:
    path = _store(folder)

    def change(record: dict[str, Any]) -> None:
        record["arrays"]["../../outside"] = record["arrays"].pop("front_rgb")

    _forge(path, change)
    return _read(path)


def _zip(folder: Path) -> Path:
    store = _store(folder)
    path = folder / "d.zarr.zip"
    export_episodes(EpisodeStore.open(store), path, "diffusion-policy-zip", progress=False)
    return path


def climbing_member(folder: Path) -> Callable[[], Any]:
    path = _zip(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside/secret", "overwritten")
    return lambda: list(open_source(path))


def zip_bomb(folder: Path) -> Callable[[], Any]:
    path = _zip(folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("data/front_rgb/99.0.0.0", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(16 * 2**20))
    return lambda: list(open_source(path))


def _replay(folder: Path, **changes: Any) -> Callable[[], Any]:
    store = _store(folder)
    path = folder / "d.zarr"
    export_episodes(EpisodeStore.open(store), path, "diffusion-policy", progress=False)
    _edit(path / "data/front_rgb/.zarray", lambda d: d.update(changes))
    return lambda: list(open_source(path))


def foreign_pickle(folder: Path) -> Callable[[], Any]:
    return _replay(folder, filters=[{"id": "pickle"}])


def foreign_chunk(folder: Path) -> Callable[[], Any]:
    return _replay(folder, chunks=[2**40, 16, 16, 3])


def foreign_shape(folder: Path) -> Callable[[], Any]:
    return _replay(folder, shape=[2**50, 16, 16, 3])


def hdf5_shape(folder: Path) -> Callable[[], Any]:
    import h5py

    path = folder / "demo.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["num_samples"] = 2**40
        demo.create_dataset("actions", (2**40, 7), "f4", chunks=(1024, 7), compression="gzip")
        demo.create_dataset("obs/front_image", (2**40, 8192, 8192, 3), "u1", chunks=(1, 64, 64, 3))
    return lambda: list(open_source(path))


def hdf5_link(folder: Path) -> Callable[[], Any]:
    import h5py

    other, path = folder.parent / "outside" / "other.hdf5", folder / "demo.hdf5"
    with h5py.File(other, "w") as file:
        file["actions"] = np.zeros((3, 2), np.float32)
    (other.parent / "raw").write_bytes(bytes(24))
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = h5py.ExternalLink(str(other), "/actions")
        external = [(str(other.parent / "raw"), 0, 24)]
        demo.create_dataset("rewards", (3,), "f8", external=external)
    return lambda: list(open_source(path))


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        pickle_filter, pickle_compressor, strange_codec, absurd_chunk, absurd_steps, absurd_row,
        chunk_bomb, huge_file, huge_header, linked_array, linked_chunk, climbing_key,
        climbing_member, zip_bomb, foreign_pickle, foreign_chunk, foreign_shape,
        hdf5_shape, hdf5_link, *PICTURES, *EDITORS,
    )
}  # fmt: skip
