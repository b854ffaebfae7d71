from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

from spie_robo.commands.convert import ConvertCommand
from spie_robo.commands.convert import convert as run_convert
from spie_robo.data import EpisodeStore, EpisodeWriter
from spie_robo.data.cloud import object_storage
from spie_robo.data.cloud.object_storage import fetch, send
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError, StoreError, StoreLockedError
from spie_robo.settings.locations import Location

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
SwapEditor, EvenGuard, episode = (shared[n] for n in ("SwapEditor", "EvenGuard", "episode"))


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    guarded = GuardedEditor(SwapEditor(), EvenGuard())
    monkeypatch.setattr(EditRequest, "load", lambda edit: None if edit.raw else guarded)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "sim.zarr"
    with EpisodeWriter.create(path) as writer:
        for i in range(3):
            writer.add_episode(episode(i), seed=i)
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def put(root: Path, url: str) -> None:
    send(root, Location.of(url), progress=False)


def got(url: str, folder: Path) -> Path:
    return fetch(Location.of(url), folder, progress=False)


def convert(source, out, **settings):
    return run_convert(ConvertCommand(Path(source), Path(out), **settings), progress=False)


def test_a_location_is_told_from_a_path():
    assert Location.of("s3://lab/a/b.zarr/") == Location.of(Path("s3://lab/a/b.zarr"))
    assert str(Location.of("s3://lab/a/b.zarr")) == "s3://lab/a/b.zarr"
    assert Location.of("runs/s3.zarr") is None
    with pytest.raises(ConfigError, match="expected s3://BUCKET/KEY"):
        Location.of("s3://lab")
    assert Location("b", "a").overlaps(Location("b", "a/c"))
    assert not Location("b", "a").overlaps(Location("b", "ab"))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["zarr", "diffusion-policy-zip"])
def test_from_bucket_to_bucket_gives_the_local_bytes(bucket, store, tmp_path, to):
    put(store, f"s3://{bucket}/data/sim.zarr")
    summary = convert(f"s3://{bucket}/data/sim.zarr", f"s3://{bucket}/out/lab", to=to)
    assert summary.objects >= 1
    convert(store, tmp_path / "lab", to=to)
    back = got(f"s3://{bucket}/out/lab", tmp_path / "back")
    if to == "zarr":
        assert files(back) == files(tmp_path / "lab")
        assert len(EpisodeStore.open(back)) == 3
    else:
        assert back.read_bytes() == (tmp_path / "lab").read_bytes()
    assert not any(f.is_file() for f in (tmp_path / "staging").glob("*/**/*"))
    with pytest.raises(StoreError, match=f"s3://{bucket}/out/lab already exists"):
        convert(store, f"s3://{bucket}/out/lab", to=to)
    with pytest.raises(StoreError, match="overlaps the input"):
        convert(f"s3://{bucket}/data/sim.zarr", f"s3://{bucket}/data", to=to)


def test_a_missing_bucket_or_key_is_named_before_any_work(bucket, secret, store, monkeypatch):
    monkeypatch.setattr(SwapEditor, "edit", None)
    with pytest.raises(StoreError, match="no bucket 'nowhere'"):
        convert(store, "s3://nowhere/lab.zarr")
    with pytest.raises(StoreError, match=f"s3://{bucket}/absent.zarr.*") as caught:
        convert(f"s3://{bucket}/absent.zarr", "lab.zarr")
    assert secret not in str(caught.value)


def test_errors_name_bucket_and_key_and_no_secret(bucket, secret, store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:1/{secret}")
    monkeypatch.setattr(object_storage, "_RETRIES", 0)
    with pytest.raises(StoreError, match=f"bucket '{bucket}', key 'lab.zarr'.*AWS_") as caught:
        convert(store, f"s3://{bucket}/lab.zarr")
    assert secret not in str(caught.value)


def test_a_cut_off_upload_cannot_be_read_and_goes_on(bucket, store, tmp_path, monkeypatch):
    upload = object_storage._Bucket.upload
    sent: list[str] = []

    def cut_off(self, file, name):
        if len(sent) == limit:
            raise KeyboardInterrupt
        sent.append(name)
        upload(self, file, name)

    monkeypatch.setattr(object_storage._Bucket, "upload", cut_off)
    limit, total = 5, len(files(store))  # the output has more files than the source
    with pytest.raises(KeyboardInterrupt):
        convert(store, f"s3://{bucket}/lab.zarr")
    half = got(f"s3://{bucket}/lab.zarr", tmp_path / "half")
    assert len(files(half)) == 5
    with pytest.raises(StoreError):
        EpisodeStore.open(half)
    monkeypatch.setattr(SwapEditor, "edit", None)  # nothing is edited twice
    limit = 10**9
    summary = convert(store, f"s3://{bucket}/lab.zarr")
    assert summary.objects == len(sent) == len(set(sent)) > total
    assert sent[-1] == "zarr.json"
    assert len(EpisodeStore.open(got(f"s3://{bucket}/lab.zarr", tmp_path / "whole"))) == 3


def test_only_what_changed_is_fetched_again(bucket, store, tmp_path, monkeypatch):
    url, folder = f"s3://{bucket}/sim.zarr", tmp_path / "copy"
    put(store, url)
    got(url, folder)
    fetched = []
    download = object_storage._Bucket.download

    def counting(self, entry, target):
        fetched.append(target.name)
        download(self, entry, target)

    monkeypatch.setattr(object_storage._Bucket, "download", counting)
    (folder / "sim.zarr" / "stray").write_bytes(b"of yesterday")
    got(url, folder)
    assert fetched == []
    (folder / "sim.zarr" / "zarr.json").unlink()
    assert files(got(url, folder)) == files(store)
    assert fetched == ["zarr.json"]


def test_an_object_that_does_not_read_back_is_an_error(bucket, tmp_path, monkeypatch):
    file = tmp_path / "data.bin"
    file.write_bytes(b"frames")
    put(file, f"s3://{bucket}/data.bin")
    location = Location(bucket, "data.bin")
    file.write_bytes(b"fromes")
    with pytest.raises(StoreError, match="holds other data"):
        send(file, location, progress=False)
    reads_back = object_storage._Bucket._reads_back
    monkeypatch.setattr(object_storage, "_etag", lambda file: "of an encrypted object")
    assert reads_back(object_storage._Bucket(location), "data.bin", file) is False
    file.write_bytes(b"frames")
    assert send(file, location, progress=False) == (1, 6)
    monkeypatch.setattr(object_storage._Bucket, "_reads_back", lambda *a: False)
    with pytest.raises(StoreError, match="does not read back as it was sent"):
        send(file, Location(bucket, "other.bin"), progress=False)


def test_large_files_go_in_parts_and_strangers_are_left_alone(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(object_storage, "PART_BYTES", 5 * 2**20)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(6 * 2**20))
    monkeypatch.setattr(object_storage._Bucket, "_reads_back", lambda *a: False)  # by ETag alone
    assert send(folder, Location(bucket, "set"), progress=False)[0] == 1
    (folder / "large.bin").rename(folder / "renamed.bin")
    with pytest.raises(StoreError, match=r"something else is there \(large.bin\)"):
        send(folder, Location(bucket, "set"), progress=False)


def test_two_processes_do_not_share_a_staging_folder(bucket):
    with object_storage.staging("x"), pytest.raises(StoreLockedError, match="another process"):
        with object_storage.staging("x"):
            pass
    with pytest.raises(StoreError, match="leads out"):
        object_storage._inside(Path("a"), "../b")


def test_manifest_that_is_damaged_is_forgotten(bucket, store, tmp_path):
    put(store, f"s3://{bucket}/sim.zarr")
    got(f"s3://{bucket}/sim.zarr", tmp_path / "copy")
    (tmp_path / "copy" / "fetched.json").write_text(json.dumps([1]))
    assert files(got(f"s3://{bucket}/sim.zarr", tmp_path / "copy")) == files(store)
