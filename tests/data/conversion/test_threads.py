from __future__ import annotations

import hashlib
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from spie_robo.commands.convert import ConvertCommand, convert
from spie_robo.data import ConversionConfig, EpisodeStore, EpisodeWriter, convert_store
from spie_robo.data.conversion.threads import recorded_threads, threads_of
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import EditorError

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
SwapEditor, episode = shared["SwapEditor"], shared["episode"]


class ThreadsEditor(SwapEditor):
    """Paints frames in torch's number of threads, and fails at its third call if told to."""

    def __init__(self, fails: bool = False) -> None:
        self._left = 2 if fails else 10**6

    def edit(self, frames, references=None, instruction=None, seeds=None):
        import torch

        if self._left == 0:
            raise RuntimeError("cut off")
        self._left -= 1
        edits = super().edit(frames, references, instruction, seeds)
        for edit in edits:
            edit.rgb[:] = torch.get_num_threads()
        return edits


def guarded():
    return GuardedEditor(ThreadsEditor())


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Whatever a test does, this process has its number of threads again."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "sim.zarr"
    with EpisodeWriter.create(path) as writer:
        for i in range(4):
            writer.add_episode(episode(i), seed=i)
    return path


def files(path: Path) -> dict[str, str]:
    found = (file for file in path.rglob("*") if file.is_file())
    return {str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in found}


def run(source, out, editor=None, engine=None):
    edits = engine if editor is None else GuardedEditor(editor)
    return convert_store(source, out, edits, ConversionConfig(batch_size=4), progress=False)


def begin(source, out):
    with pytest.raises(EditorError, match="cut off"):
        run(source, out, ThreadsEditor(fails=True))
    assert 0 < EpisodeStore.open(out, allow_unfinished=True).commit.episodes < 4


def test_a_conversion_goes_on_with_the_threads_that_it_was_begun_with(source, tmp_path):
    run(source, tmp_path / "whole.zarr", ThreadsEditor())
    begin(source, tmp_path / "out.zarr")
    torch.set_num_threads(1)
    assert run(source, tmp_path / "out.zarr", ThreadsEditor()).resumed_at > 0
    assert torch.get_num_threads() == 1
    assert files(tmp_path / "out.zarr") == files(tmp_path / "whole.zarr")
    out = EpisodeStore.open(tmp_path / "out.zarr")
    assert out.metadata.provenance["torch_threads"] == 2
    assert {int(n) for rows in out for n in np.unique(rows["front_rgb"])} == {2}


def test_threads_are_given_back_after_an_error_too(source, tmp_path):
    begin(source, tmp_path / "out.zarr")
    torch.set_num_threads(1)
    with pytest.raises(EditorError, match="cut off"):
        run(source, tmp_path / "out.zarr", ThreadsEditor(fails=True))
    assert torch.get_num_threads() == 1


def test_other_threads_give_another_record_and_no_other_identity(source, tmp_path):
    run(source, tmp_path / "two.zarr", SwapEditor())
    torch.set_num_threads(1)
    run(source, tmp_path / "one.zarr", SwapEditor())
    one, two = files(tmp_path / "one.zarr"), files(tmp_path / "two.zarr")
    assert [name for name in one if one[name] != two[name]] == ["zarr.json"]
    found = [
        dict(EpisodeStore.open(tmp_path / f"{n}.zarr").metadata.provenance) for n in ("one", "two")
    ]
    assert [provenance.pop("torch_threads") for provenance in found] == [1, 2]
    assert found[0] == found[1]


def test_a_copy_says_nothing_of_threads(source, tmp_path):
    run(source, tmp_path / "edited.zarr", ThreadsEditor())
    run(tmp_path / "edited.zarr", tmp_path / "copy.zarr")
    assert "torch_threads" not in EpisodeStore.open(tmp_path / "copy.zarr").metadata.provenance


def test_the_editor_is_loaded_with_the_recorded_threads(source, tmp_path, monkeypatch):
    begin(source, tmp_path / "out.zarr")
    torch.set_num_threads(1)
    loaded = []

    def load(edit):
        loaded.append(torch.get_num_threads())
        return guarded()

    monkeypatch.setattr(EditRequest, "load", load)
    convert(ConvertCommand(source, tmp_path / "out.zarr", batch_size=4), progress=False)
    assert (loaded, torch.get_num_threads()) == ([2], 1)


def test_what_is_no_count_is_not_used(tmp_path):
    for value in (None, "2", 0, -1, True, 2.0):
        assert recorded_threads({"torch_threads": value}) is None
    assert recorded_threads({"torch_threads": 3}) == 3
    assert threads_of(tmp_path / "absent.zarr") is None


@pytest.mark.slow
def test_workers_of_ray_take_the_recorded_threads_too(source, tmp_path):
    pytest.importorskip("ray")
    from spie_robo.data.conversion.ray_engine import RayEngine

    run(source, tmp_path / "whole.zarr", ThreadsEditor())
    begin(source, tmp_path / "out.zarr")
    torch.set_num_threads(1)  # which the workers are started with
    with RayEngine(guarded, 1) as engine:
        run(source, tmp_path / "out.zarr", engine=engine)
    assert torch.get_num_threads() == 1
    assert files(tmp_path / "out.zarr") == files(tmp_path / "whole.zarr")
