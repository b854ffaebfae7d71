from __future__ import annotations

import hashlib
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spie_robo.data import (
    ConversionConfig,
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    convert_store,
    verify_store,
)
from spie_robo.data.conversion import convert
from spie_robo.data.episode_seed import episode_seed
from spie_robo.data.store import fields
from spie_robo.data.store.metadata import CameraMetadata
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import (
    ConfigError,
    EditorError,
    ReferencePhotoError,
    StoreCorruptError,
    StoreError,
)

NURSERY = Path(__file__).parents[1] / "nursery.py"
shared = runpy.run_path(str(NURSERY))
episode, SwapEditor, EvenGuard = (shared[n] for n in ("episode", "SwapEditor", "EvenGuard"))
NAMES = {0: "floor", 1: "cube"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Watching(SwapEditor):
    """Remembers the frames and seeds that it was given."""

    def __init__(self) -> None:
        self.calls = []

    def edit(self, frames, references=None, instruction=None, seeds=None):
        self.calls.append((list(frames), list(seeds), instruction))
        return super().edit(frames, references, instruction, seeds)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "sim.zarr"
    cameras = {"front": CameraMetadata(((9, 0, 8), (0, 9, 8), (0, 0, 1)), NAMES)}
    with EpisodeWriter.create(path, StoreMetadata(env_id="Env-v0", cameras=cameras)) as writer:
        for i in range(3):
            arrays = episode(i)
            arrays["wrist_rgb"] = 255 - arrays["front_rgb"]
            arrays["wrist_extrinsics"] = np.tile(
                np.eye(4, dtype=np.float32), (len(arrays["reward"]), 1, 1)
            )
            writer.add_episode(arrays, seed=i)
    return path


def digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return total.hexdigest()


def run(source: Path, out: Path, editor=None, guard=None, **options):
    asked = {
        k: options.pop(k) for k in ("references", "instruction", "retries", "steps") if k in options
    }
    return convert_store(
        source,
        out,
        GuardedEditor(editor or SwapEditor(), guard, **asked),
        ConversionConfig(**options),
        progress=False,
    )


def test_frames_are_edited_and_everything_else_is_kept(source, tmp_path):
    before = digest(source)
    summary = run(source, tmp_path / "out.zarr", guard=EvenGuard(), retries=0)
    assert digest(source) == before
    old, new = EpisodeStore.open(source), EpisodeStore.open(tmp_path / "out.zarr")
    accepted = 0
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        for key in set(a) - {"front_rgb", "wrist_rgb"}:
            assert b[key].dtype == a[key].dtype
            assert b[key].tobytes() == a[key].tobytes()
        seed = episode_seed(0, i)
        for camera in ("front", "wrist"):
            raw = a[f"{camera}_rgb"]
            np.testing.assert_array_equal(b[f"{camera}_raw"], raw)
            even = raw[:, 0, 1, 2] % 2 == 0
            np.testing.assert_array_equal(b[f"realism_{camera}_accepted"], even)
            np.testing.assert_array_equal(b[f"realism_{camera}_edited"], even)
            assert (b[f"realism_{camera}_seed"] == seed).all()
            swapped = raw[..., ::-1].copy()
            swapped[:, 0, 0] = [seed % 256, seed // 256 % 256, seed // 65536 % 256]
            expected = np.where(even[:, None, None, None], swapped, raw)
            np.testing.assert_array_equal(b[f"{camera}_rgb"], expected)
            accepted += int(even.sum())
        np.testing.assert_array_equal(b["realism_front_moved_px"], a["front_depth"][:, 0, 0])
        assert np.isnan(b["realism_wrist_moved_px"]).all()
    assert (summary.episodes, summary.frames) == (3, old.n_steps * 2)
    assert 0 < summary.accepted == accepted < summary.frames
    assert new.seeds.tolist() == old.seeds.tolist()
    assert new.metadata.editor_id == "swap@1"
    assert new.metadata.env_id == "Env-v0"
    assert new.metadata.cameras == old.metadata.cameras
    assert verify_store(new.path).ok


def test_editor_sees_batches_with_geometry_and_one_seed_an_episode(source, tmp_path):
    editor = Watching()
    run(source, tmp_path / "out.zarr", editor, batch_size=3, seed=5, instruction="my lab")
    assert max(len(frames) for frames, _, _ in editor.calls) == 3
    seeds = {seed for _, seeds, _ in editor.calls for seed in seeds}
    assert seeds == {episode_seed(5, i) for i in range(3)}
    assert len(seeds) == 3
    front = [f for frames, _, _ in editor.calls for f in frames if f.camera == "front"]
    whole = np.concatenate([episode(i)["front_depth"] for i in range(3)])
    np.testing.assert_array_equal(np.stack([f.geometry.depth for f in front]), whole)
    assert front[0].geometry.names == NAMES
    assert front[0].geometry.intrinsics[0, 0] == 9
    wrist = [f for frames, _, _ in editor.calls for f in frames if f.camera == "wrist"]
    assert wrist[0].geometry is None
    assert {instruction for _, _, instruction in editor.calls} == {"my lab"}
    assert EpisodeStore.open(tmp_path / "out.zarr").metadata.instruction == "my lab"


def test_one_camera_can_be_chosen_and_an_edited_store_is_edited_from_raw(source, tmp_path):
    run(source, tmp_path / "one.zarr", cameras=("front",))
    run(tmp_path / "one.zarr", tmp_path / "two.zarr", seed=1, zarr_format=2)
    old, one, two = (
        EpisodeStore.open(p) for p in (source, tmp_path / "one.zarr", tmp_path / "two.zarr")
    )
    assert "wrist_raw" not in one.keys
    assert (one.zarr_format, two.zarr_format) == (3, 2)
    for a, b, c in zip(old, one, two, strict=True):
        np.testing.assert_array_equal(a["wrist_rgb"], b["wrist_rgb"])
        np.testing.assert_array_equal(a["front_rgb"], c["front_raw"])
        np.testing.assert_array_equal(a["front_rgb"][:, 1:, :, ::-1], c["front_rgb"][:, 1:])
    with pytest.raises(ConfigError, match=r"expected some of \['front', 'wrist'\]"):
        run(source, tmp_path / "three.zarr", cameras=("side",))
    assert not (tmp_path / "three.zarr").exists()


def test_verdicts_of_an_earlier_guard_are_not_kept_beside_the_new_ones(tmp_path):
    path = tmp_path / "old.zarr"
    with EpisodeWriter.create(path, StoreMetadata(env_id="Env-v0")) as writer:
        arrays = episode(0)
        arrays["front_raw"] = arrays["front_rgb"]
        arrays["realism_front_mask_iou"] = np.full(len(arrays["reward"]), 0.5, np.float32)
        writer.add_episode(arrays, seed=0)
    run(path, tmp_path / "out.zarr", guard=EvenGuard(), retries=0)
    keys = EpisodeStore.open(tmp_path / "out.zarr").keys
    assert "realism_front_outline" in keys and "realism_front_mask_iou" not in keys


def test_same_seed_same_bytes_and_batch_size_does_not_matter(source, tmp_path):
    for name, options in [
        ("a", {"batch_size": 2}),
        ("b", {"batch_size": 7}),
        ("c", {"batch_size": 2, "seed": 1}),
    ]:
        run(source, tmp_path / name / "out.zarr", **options)
    a, b, c = (digest(tmp_path / name / "out.zarr") for name in "abc")
    assert a == b != c


class StopsAfter(SwapEditor):
    """Fails after some calls, as an editor that runs out of memory would."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def edit(self, frames, references=None, instruction=None, seeds=None):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("out of memory")
        return super().edit(frames, references, instruction, seeds)


def test_a_failed_conversion_resumes_with_the_same_options_only(source, tmp_path):
    out = tmp_path / "out.zarr"
    with pytest.raises(EditorError, match="out of memory"):
        run(source, out, StopsAfter(9), batch_size=2)
    with pytest.raises(StoreError, match=r"unfinished conversion with [12] episodes"):
        EpisodeStore.open(out)
    for options, named in [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"steps": 4}, "steps: None there, 4 now"),
        ({"cameras": ("front",)}, "cameras"),
    ]:
        with pytest.raises(StoreError, match=f"{named}.*Choose another output path, or delete it"):
            run(source, out, **options)
    with pytest.raises(StoreError, match="guard"):
        run(source, out, guard=EvenGuard())
    summary = run(source, out)
    assert summary.resumed_at >= 1
    assert summary.episodes == 3
    run(source, tmp_path / "whole.zarr")
    assert digest(out) == digest(tmp_path / "whole.zarr")
    again = run(source, out, StopsAfter(0))
    assert again == replace(summary, resumed_at=3)


def test_another_source_is_not_resumed_into(source, tmp_path):
    out = tmp_path / "out.zarr"
    run(source, out)
    with EpisodeWriter.create(tmp_path / "sim.zarr") as writer:
        writer.add_episode(episode(0))
    with pytest.raises(StoreError, match="source_fingerprint"):
        run(tmp_path / "sim.zarr", out)
    with pytest.raises(StoreError, match="that no conversion wrote"):
        run(source, tmp_path / "sim.zarr")
    for overlapping in (source, source / "data" / "x"):
        with pytest.raises(StoreError, match="overlaps"):
            run(source, overlapping)


def test_references_are_told_apart_by_their_bytes(source, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"one")
    out = tmp_path / "out.zarr"
    run(source, out, references=str(photos))
    run(source, out, references=photos)
    (photos / "a.png").write_bytes(b"two")
    with pytest.raises(StoreError, match="references"):
        run(source, out, references=photos)
    with pytest.raises(ReferencePhotoError, match="no folder or file"):
        run(source, tmp_path / "other.zarr", references=tmp_path / "nothing")


def test_an_output_that_does_not_read_back_is_not_called_complete(source, tmp_path, monkeypatch):
    def change_reward(rows, edits):
        result = edited_rows(rows, edits)
        result["reward"] = result["reward"] + 1
        return result

    edited_rows = convert._edited_rows
    monkeypatch.setattr(convert, "_edited_rows", change_reward)
    with pytest.raises(StoreCorruptError, match="reward of episode 0 is not what was written"):
        run(source, tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="unfinished"):
        EpisodeStore.open(tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (ConversionConfig, {"batch_size": 0}),
        (ConversionConfig, {"seed": -1}),
        (EditRequest, {"steps": 0}),
        (EditRequest, {"retries": -1}),
    ],
)
def test_options_out_of_range(make, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(**options)


def test_episode_seeds_are_pinned_and_differ():
    assert episode_seed(0, 0) == int(np.random.SeedSequence([0, 0]).generate_state(1)[0])
    assert len({episode_seed(s, e) for s in range(10) for e in range(10)}) == 100
    assert fields.cameras_of(["front_rgb", "a_rgb", "front_raw"]) == ("a", "front")


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    peaks = []
    for episodes in (2, 20):
        path = tmp_path / f"{episodes}.zarr"
        rng = np.random.default_rng(0)
        with EpisodeWriter.create(path) as writer:
            for i in range(episodes):
                rgb = rng.integers(0, 64, (60, 128, 128, 3), np.uint8)
                writer.add_episode({"front_rgb": rgb, "action": np.zeros((60, 2))}, seed=i)
        code = (
            "import runpy; from pathlib import Path; from spie_robo.data import convert_store\n"
            "from spie_robo.editing.guarded_editor import GuardedEditor\n"
            f"editor = GuardedEditor(runpy.run_path({str(NURSERY)!r})['SwapEditor']())\n"
            f"convert_store({str(path)!r}, {str(path)!r} + '.out', editor, progress=False)\n"
            "status = Path('/proc/self/status').read_text()\n"  # ru_maxrss counts the parent's too
            "print(status.split('VmHWM:')[1].split()[0])"
        )
        quiet = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # the allocator's own noise is 10 %
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env=quiet
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0], peaks
