from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

from spie_robo import cli
from spie_robo.data import EpisodeStore, EpisodeWriter, convert_store, describe_store
from spie_robo.data.cloud import object_storage
from spie_robo.data.cloud.object_storage import send
from spie_robo.data.store import info
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.settings.locations import Location

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
SwapEditor, EvenGuard, episode = (shared[n] for n in ("SwapEditor", "EvenGuard", "episode"))


@pytest.fixture(params=[3, 2])
def store(request, tmp_path):
    """An edited store, raw frames and verdicts included."""
    with EpisodeWriter.create(tmp_path / "sim.zarr", zarr_format=request.param) as writer:
        for i in range(3):
            writer.add_episode(episode(i), seed=i)
    out = tmp_path / "lab.zarr"
    convert_store(
        tmp_path / "sim.zarr", out, GuardedEditor(SwapEditor(), EvenGuard()), progress=False
    )
    return out


@pytest.fixture
def url(bucket, store):
    send(store, Location(bucket, "data/lab.zarr"), progress=False)
    return f"s3://{bucket}/data/lab.zarr"


@pytest.fixture
def fetched(monkeypatch):
    """Names of the objects that are copied here."""
    names = []
    download = object_storage._Bucket.download

    def counting(self, entry, target):
        names.append(entry["path"])
        download(self, entry, target)

    monkeypatch.setattr(object_storage._Bucket, "download", counting)
    return names


def copies(staged: Path) -> list[Path]:
    return [file for file in staged.glob("*/**/*") if file.is_file()]


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_info_says_the_same_of_a_bucket_and_copies_no_image(url, store, staged, fetched, capsys):
    code, there, _ = run(capsys, "info", url)
    assert code == 0
    assert there == str(describe_store(store)).replace(str(store), url) + "\n"
    assert there.startswith(url + "\n")
    below = [
        name.split("/lab.zarr/data/")[1].split("/") for name in fetched if "zarr/data/" in name
    ]
    rows = {key[0] for key in below if key[-1] != "zarr.json" and not key[-1].startswith(".z")}
    assert rows == {"success", "realism_front_accepted"}
    assert copies(staged) == []


def test_what_info_asks_for_is_all_that_it_reads(store):
    files = [file for file in store.rglob("*") if file.is_file()]
    expected = describe_store(store)
    sizes = {str(file.relative_to(store)): file.stat().st_size for file in files}
    for name in sizes:
        if not info.is_described(name):
            (store / name).unlink()
    assert describe_store(store, sizes) == expected
    assert len([name for name in sizes if info.is_described(name)]) < len(sizes)


def test_verify_reads_a_bucket_and_names_damage_by_its_address(url, store, staged, bucket, capsys):
    code, out, _ = run(capsys, "verify", url)
    assert (code, out.startswith(f"{url}: intact (3 episodes")) == (0, True)
    assert copies(staged) == []
    chunk = max(
        (store / "data/front_rgb").rglob("*"), key=lambda f: f.is_file() and f.stat().st_size
    )
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    send(store, Location(bucket, "broken.zarr"), progress=False)
    code, out, _ = run(capsys, "verify", f"s3://{bucket}/broken.zarr")
    assert code == 1
    assert f"s3://{bucket}/broken.zarr/data/front_rgb" in out
    assert str(staged) not in out
    code, _, complaint = run(capsys, "report", f"s3://{bucket}/broken.zarr", "--out", "page.html")
    assert code == 2
    assert f"s3://{bucket}/broken.zarr/data/front_rgb" in complaint
    assert str(staged) not in complaint
    assert copies(staged) == []


def test_a_report_of_a_bucket_says_where_the_store_is(url, staged, tmp_path, capsys):
    page = tmp_path / "pages" / "page.html"
    assert run(capsys, "report", url, "--out", page, "--frames", 2)[0] == 0
    assert f"{url} (zarr format" in page.read_text()
    assert str(staged) not in page.read_text()
    assert copies(staged) == []


def test_a_look_that_is_cut_off_goes_on(url, store, staged, fetched, capsys, monkeypatch):
    download = object_storage._Bucket.download

    def cut_off(self, entry, target):
        if len(fetched) == 5:
            raise KeyboardInterrupt
        download(self, entry, target)

    with monkeypatch.context() as patch:
        patch.setattr(object_storage._Bucket, "download", cut_off)
        code, _, complaint = run(capsys, "verify", url)
    assert code == 130
    assert "what was copied here stays; run the same command again" in complaint
    assert len([f for f in copies(staged) if f.name != "fetched.json"]) == 5
    assert run(capsys, "verify", url)[0] == 0
    files = [file for file in store.rglob("*") if file.is_file()]
    assert len(fetched) == len(set(fetched)) == len(files)
    assert copies(staged) == []


def test_what_is_no_store_is_told_before_it_is_copied(bucket, tmp_path, fetched, capsys):
    (tmp_path / "movie.mp4").write_bytes(b"frames")
    send(tmp_path / "movie.mp4", Location(bucket, "movie.mp4"), progress=False)
    for command in (["info"], ["verify"], ["report", "--out", tmp_path / "page.html"]):
        code, _, complaint = run(capsys, *command, f"s3://{bucket}/movie.mp4")
        assert code == 2
        assert f"s3://{bucket}/movie.mp4: expected an episode store" in complaint
        code, _, complaint = run(capsys, *command, f"s3://{bucket}/absent.zarr")
        assert (code, f"s3://{bucket}/absent.zarr" in complaint) == (2, True)
    assert fetched == []


def test_a_store_of_this_machine_is_read_in_place(store, capsys):
    code, out, _ = run(capsys, "info", store)
    assert (code, out) == (0, f"{describe_store(store)}\n")
    assert len(EpisodeStore.open(store)) == 3
