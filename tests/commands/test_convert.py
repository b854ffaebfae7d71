from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spie_robo import cli
from spie_robo.commands import conversion
from spie_robo.commands import convert as convert_command
from spie_robo.commands.convert import ConvertCommand, convert, plan
from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
from spie_robo.data.conversion import ray_engine
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.formats import detect_format, open_source
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError, EditorError, MissingExtraError, StoreError
from spie_robo.guard import GeometryGuard
from spie_robo.guard.process import GuardProcess

shared = runpy.run_path(str(Path(__file__).parents[1] / "data" / "nursery.py"))
SwapEditor, EvenGuard, episode = (shared[n] for n in ("SwapEditor", "EvenGuard", "episode"))


class Failing(SwapEditor):
    """Fails after some calls."""

    calls = 10**9

    def edit(self, *arguments, **named):
        Failing.calls -= 1
        if Failing.calls < 0:
            raise RuntimeError("out of memory")
        return super().edit(*arguments, **named)


@pytest.fixture(autouse=True)
def disguised(monkeypatch):
    """The editor's weights are not what is tested; the disk need not keep anything."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(Failing, "calls", 10**9)

    guarded = GuardedEditor(Failing(), EvenGuard())
    monkeypatch.setattr(EditRequest, "load", lambda edit: None if edit.raw else guarded)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "sim.zarr"
    with EpisodeWriter.create(path) as writer:
        for i in range(3):
            writer.add_episode(episode(i), seed=i)
    return path


def digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return total.hexdigest()


def whole(path: Path) -> dict[str, np.ndarray]:
    source = open_source(path)
    return {key: np.concatenate([e[key] for e in source]) for key in source.keys}


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("name", ["diffusion-policy-zip", "robomimic"])
def test_a_store_is_edited_into_another_format(tmp_path, name, capsys):
    store = tmp_path / "one.zarr"
    with EpisodeWriter.create(store) as writer:
        writer.add_episode(episode(2), seed=2)
    assert run("convert", store, tmp_path / "plain.zarr", "--batch-size", 3) == 0
    assert run("convert", store, tmp_path / "out", "--to", name, "--batch-size", 3) == 0
    assert detect_format(tmp_path / "out") == name
    edited, found = whole(tmp_path / "plain.zarr"), whole(tmp_path / "out")
    assert edited.keys() == found.keys()
    for key, rows in edited.items():
        assert found[key].dtype == rows.dtype
        np.testing.assert_array_equal(found[key], rows, err_msg=key)
    left = {p.name for p in tmp_path.iterdir() if "staging" in p.name or "building" in p.name}
    assert left == set()
    printed = capsys.readouterr().out
    assert "1 episode," in printed
    assert "Next: spie-robo convert" in printed
    assert run("convert", store, tmp_path / "out", "--to", name) == 2
    assert "already exists" in capsys.readouterr().err


def test_another_format_is_edited_into_a_store(store, tmp_path):
    assert (
        run(
            "convert",
            store,
            tmp_path / "dp.zip",
            "--to",
            "diffusion-policy-zip",
            "--editor",
            "none",
        )
        == 0
    )
    assert run("convert", tmp_path / "dp.zip", tmp_path / "edited.zarr") == 0
    assert run("convert", store, tmp_path / "direct.zarr") == 0
    a, b = whole(tmp_path / "edited.zarr"), whole(tmp_path / "direct.zarr")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[key], b[key], equal_nan=a[key].dtype.kind == "f") for key in a)
    assert EpisodeStore.open(tmp_path / "edited.zarr").metadata.editor_id == "swap@1"


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_without_an_editor_only_the_format_changes(store, tmp_path, word, capsys):
    assert run("convert", store, tmp_path / "out.zarr", "--editor", word) == 0
    before, after = whole(store), whole(tmp_path / "out.zarr")
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)
    assert run("convert", store, tmp_path / "x", "--editor", word, "--cameras", "front") == 2
    assert "expected an editor for them" in capsys.readouterr().err


def test_a_conversion_that_was_cut_off_goes_on_to_the_same_bytes(store, tmp_path):
    config = ConvertCommand(store, tmp_path / "out", to="diffusion-policy", batch_size=2)
    Failing.calls = 13
    with pytest.raises(EditorError, match="out of memory"):
        convert(config, progress=False)
    assert not (tmp_path / "out").exists()
    Failing.calls = 10**9
    summary = convert(config, progress=False)
    assert summary.edits.resumed_at >= 1
    other = ConvertCommand(store, tmp_path / "whole", to="diffusion-policy", batch_size=2)
    convert(other, progress=False)
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


def test_a_dry_run_shows_the_plan_and_writes_nothing(store, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert run("convert", store, tmp_path / "out", "--to", "robomimic", "--dry-run") == 0
    text = capsys.readouterr().out
    steps = EpisodeStore.open(store).n_steps
    assert f"3 episodes, {steps} steps, {steps} frames to edit" in text
    assert "camera front: 16x16, geometry simulator" in text
    assert "(zarr) ->" in text
    assert "(robomimic)" in text
    assert "Nothing was written" in text
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_the_plan_is_near_what_comes_out(tmp_path):
    path = tmp_path / "sim.zarr"
    rng = np.random.default_rng(0)
    with EpisodeWriter.create(path) as writer:
        for _ in range(3):
            frames = rng.integers(0, 64, (40, 48, 48, 3), np.uint8)
            writer.add_episode({"front_rgb": frames, "action": rng.random((40, 3))})
    config = ConvertCommand(path, tmp_path / "out", to="diffusion-policy")
    planned = plan(config)
    assert (planned.frames, planned.episodes, planned.steps) == (120, 3, 120)
    assert planned.cameras[0].geometry == "estimated"
    assert 0 < planned.seconds < 60
    convert(config, progress=False)
    size = sum(f.stat().st_size for f in (tmp_path / "out").rglob("*") if f.is_file())
    assert 0.7 < planned.out_bytes / size < 1.4


def test_a_missing_package_is_named(store, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    config = ConvertCommand(
        store, tmp_path / "out", to="robomimic", edit=EditRequest(editor="none")
    )
    with pytest.raises(MissingExtraError, match=r"h5py.*spie-robo\[formats\]"):
        convert(config, progress=False)
    assert not (tmp_path / "out").exists()


def test_what_is_no_data_set_is_said_before_an_editor_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(EditRequest, "load", lambda edit: pytest.fail("loaded"))
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match="of no known format"):
        convert(ConvertCommand(tmp_path / "x", tmp_path / "out"))
    with pytest.raises(ConfigError, match="fps"):
        ConvertCommand(tmp_path / "x", tmp_path / "out", fps=0)


def test_verdicts_say_what_they_were_judged_against(store, tmp_path, monkeypatch):
    """Recorded depth goes to the guard; where a file has none, the judge reads the raw frame."""
    seen = []

    class Watching(EvenGuard):
        def judge_batch(self, frames, edits):
            seen.extend(frame.geometry is not None for frame in frames)
            return super().judge_batch(frames, edits)

    guarded = GuardedEditor(SwapEditor(), Watching())
    monkeypatch.setattr(EditRequest, "load", lambda edit: guarded)
    import h5py

    with h5py.File(tmp_path / "lab.hdf5", "w") as file:
        rng = np.random.default_rng(0)
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.zeros((4, 2))
        for camera in ("depthless", "front"):
            demo[f"obs/{camera}_image"] = rng.integers(0, 256, (4, 16, 16, 3), np.uint8)
        demo["obs/front_depth"] = rng.integers(500, 2000, (4, 8, 8, 1), np.uint16)
    assert run("convert", tmp_path / "lab.hdf5", tmp_path / "out.zarr") == 0
    out = EpisodeStore.open(tmp_path / "out.zarr")
    assert out.metadata.provenance["geometry"] == {"depthless": "estimated", "front": "recorded"}
    assert sorted(set(seen)) == [False, True]
    depth = out[0]["realism_front_moved_px"]  # the disguised guard measures depth[0, 0]
    with h5py.File(tmp_path / "lab.hdf5") as file:
        expected = file["data/demo_0/obs/front_depth"][:, 0, 0, 0] / 1000
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_ray_is_used_when_asked_for_and_its_absence_is_told(store, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="workers: expected --engine ray"):
        ConvertCommand(store, tmp_path / "out.zarr", workers=2)
    config = ConvertCommand(store, tmp_path / "out.zarr", engine="ray", workers=2)
    asked = []

    class Stub(LocalEngine):
        def __init__(self, load, workers, timeout):
            asked.extend([workers, timeout])
            super().__init__(load())

        def __enter__(self):
            return self

        def __exit__(self, *error):
            asked.append("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "RayEngine", Stub)
        assert convert(config, progress=False).episodes == 3
    assert asked == [2, 3600.0, "stopped"]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spie-robo\[ray\]'"):
        convert(config, progress=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spie-robo\[cloud\]'"):
        convert(ConvertCommand(store, Path("s3://lab/out.zarr")), progress=False)


def test_many_frames_are_judged_in_another_process_where_a_core_is_idle(
    store, tmp_path, monkeypatch
):
    guarded = GuardedEditor(SwapEditor(), GeometryGuard())
    monkeypatch.setattr(EditRequest, "load", lambda edit: guarded)
    apart = []

    class Watched(GuardProcess):
        def judge_batch(self, frames, edits):
            apart.append(len(frames))
            return super().judge_batch(frames, edits)

    monkeypatch.setattr(conversion, "GuardProcess", Watched)
    config = ConvertCommand(store, tmp_path / "here.zarr")
    few = convert(config, progress=False)
    assert apart == [] and few.frames < conversion.JUDGE_APART_FROM
    monkeypatch.setattr(conversion, "JUDGE_APART_FROM", few.frames)
    monkeypatch.setattr(conversion, "_cores", lambda: 1)
    convert(replace(config, out=tmp_path / "one_core.zarr"), progress=False)
    assert apart == []
    monkeypatch.setattr(conversion, "_cores", lambda: 2)
    convert(replace(config, out=tmp_path / "apart.zarr"), progress=False)
    assert sum(apart) >= few.frames
    assert digest(tmp_path / "apart.zarr") == digest(tmp_path / "here.zarr")


def test_outputs_are_not_written_into_what_they_come_from(tmp_path, capsys):
    store = tmp_path / "one.zarr"
    with EpisodeWriter.create(store) as writer:
        writer.add_episode(episode(2), seed=2)
    inside = store / "data" / "out"
    line = ("convert", store, inside, "--to", "diffusion-policy", "--editor", "none")
    assert run(*line) == 2 and "overlaps the input" in capsys.readouterr().err
    assert run("report", store, "--out", store / "zarr.json") == 2
    assert "expected a file outside of the store" in capsys.readouterr().err
    assert run("verify", store) == 0 and not inside.exists()


def test_a_store_without_episodes_and_a_camera_that_is_not_there(tmp_path, capsys):
    empty, store = tmp_path / "empty.zarr", tmp_path / "one.zarr"
    EpisodeWriter.create(empty).close()
    for line in (("--dry-run",), ("--to", "robomimic", "--editor", "none")):
        assert run("convert", empty, tmp_path / "out", *line) == 2
        assert "no finished episode" in capsys.readouterr().err
    with EpisodeWriter.create(store) as writer:
        writer.add_episode(episode(2), seed=2)
    assert run("convert", store, tmp_path / "out", "--dry-run", "--cameras", "frnt") == 2
    assert "got ['frnt']" in capsys.readouterr().err


def test_an_interrupt_says_what_is_kept_and_how_to_go_on(store, tmp_path, monkeypatch, capsys):
    """Edits wait beside an output in another format; they are kept while that is written."""
    out = tmp_path / "out"
    line = ("convert", store, out, "--to", "diffusion-policy")

    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    def interrupted(where, name, *words):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, interrupt)
            assert run(*line, *words) == 130
        return capsys.readouterr().err

    again = "run the same command again to go on"
    assert f"interrupted; nothing was written; {again}" in interrupted(conversion, "convert_store")
    told = interrupted(conversion, "export_episodes", "--editor", "none")
    assert f"nothing was written; {again}" in told
    told = interrupted(conversion, "export_episodes")
    staging = tmp_path / ".out.staging"
    assert f"{out} was not written, its edits are kept in {staging}; {again}" in told
    assert staging.is_dir() and not out.exists()
    told = interrupted(conversion.shutil, "rmtree")
    assert f"{out} is written; {staging} is no longer needed, delete it" in told
    shutil.rmtree(out)
    assert run(*line) == 0
    assert not staging.exists()
    assert "nothing was written" in interrupted(convert_command, "plan", "--dry-run")


def test_verify_says_that_a_conversion_is_unfinished_and_how_to_finish_it(store, tmp_path, capsys):
    again = "Run the same convert command again to finish it"
    Failing.calls = 13
    assert run("convert", store, tmp_path / "half.zarr", "--batch-size", 2) == 2
    capsys.readouterr()
    assert run("verify", tmp_path / "half.zarr") == 0
    told = capsys.readouterr().out
    assert "intact (" in told and f"unfinished conversion. {again}" in told
    Failing.calls = 13
    assert run("convert", store, tmp_path / "o", "--to", "robomimic", "--batch-size", 2) == 2
    capsys.readouterr()
    assert run("verify", tmp_path / "o") == 2
    told = capsys.readouterr().err
    assert f"unfinished conversion, whose edits are in {tmp_path / '.o.staging'}. {again}" in told
    assert run("verify", tmp_path / ".o.staging") == 0
    assert again in capsys.readouterr().out
    Failing.calls = 10**9
    assert run("convert", store, tmp_path / "half.zarr") == 0
    assert run("verify", tmp_path / "half.zarr") == 0
    assert "unfinished" not in capsys.readouterr().out


def test_geometry_that_cannot_be_used_is_not_called_recorded(tmp_path, capsys):
    path = tmp_path / "sim.zarr"
    metadata = with_source(StoreMetadata(), SourceRecord("robomimic"))
    rng = np.random.default_rng(0)
    with EpisodeWriter.create(path, metadata) as writer:
        frames = {f"{c}_rgb": rng.integers(0, 256, (3, 16, 16, 3), np.uint8) for c in "ab"}
        depth = {"a_depth": np.ones((3, 12, 16)), "b_depth": np.ones((3, 8, 8))}
        ids = {"b_segmentation": np.ones((3, 4), np.int32)}
        writer.add_episode({**frames, **depth, **ids})
    notes = [
        "a_depth (16x12) is not used to judge edits: the image is 16x16, of another ratio of sides",
        "b_segmentation (4) is not used to judge edits: the image is 16x16",
    ]
    assert run("convert", path, tmp_path / "out.zarr", "--dry-run") == 0
    told = capsys.readouterr().out
    assert all(note in told for note in notes)
    assert "camera a: 16x16, geometry estimated" in told
    assert "camera b: 16x16, geometry recorded" in told
    assert run("convert", path, tmp_path / "out.zarr") == 0
    told = capsys.readouterr().out
    assert all(note in told for note in notes)
    out = EpisodeStore.open(tmp_path / "out.zarr")
    assert out.metadata.provenance["geometry"] == {"a": "estimated", "b": "recorded"}
    assert run("convert", path, tmp_path / "b.zarr", "--cameras", "b") == 0
    assert "a_depth" not in capsys.readouterr().out
    assert run("convert", path, tmp_path / "copy.zarr", "--editor", "none") == 0
    assert "note" not in capsys.readouterr().out


def test_several_looks_an_episode_come_from_the_command_line(store, tmp_path, capsys):
    words = ("--variants", 2, "--keep-raw")
    assert run("convert", store, tmp_path / "out.zarr", *words, "--dry-run") == 0
    steps = EpisodeStore.open(store).n_steps
    assert f"9 episodes, {3 * steps} steps, {2 * steps} frames to edit" in capsys.readouterr().out
    assert run("convert", store, tmp_path / "out.zarr", *words) == 0
    rows = whole(tmp_path / "out.zarr")
    assert rows["synthetic"].sum() == 2 * steps and len(rows["synthetic"]) == 3 * steps
    assert f"{2 * steps} frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--variants", 0), "variants: expected 1 or more"),
        (("--keep-raw",), "keep_raw: expected --variants N with it"),
        (("--variants", 2, "--editor", "none"), "variants: expected an editor for them"),
    ],
)
def test_looks_that_make_no_sense_are_refused(store, tmp_path, words, said, capsys):
    assert run("convert", store, tmp_path / "out.zarr", *words) == 2
    assert said in capsys.readouterr().err
