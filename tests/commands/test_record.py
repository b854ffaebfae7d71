"""``record`` and ``demo`` with a cheap editor and the real simulator."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from spie_robo.commands.acting import RandomPolicy, make_env
from spie_robo.commands.demo import DemoCommand, run_demo
from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import EpisodeStore
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError, EditorError, EnvError, StoreError, StoreLockedError
from spie_robo.files.lock import StoreLock
from spie_robo.types import Deviation, EditResult, Frame, GuardVerdict, References


class Negative:
    """Inverts frames."""

    id = "negative@00"

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        assert seeds is not None
        return [
            EditResult(255 - frame.rgb, seed, "invert", self.id, 1)
            for frame, seed in zip(frames, seeds, strict=True)
        ]


class FrontOnly:
    """Accepts edits of the front camera."""

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        accepted = frame.camera == "front"
        deviation = Deviation("moved_px", 0.1 if accepted else 0.9, 0.5)
        return GuardVerdict(accepted, (deviation,), "", "simulator")

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]


class Broken(Negative):
    """Fails at the first frame."""

    def edit(self, *arguments: object, **named: object) -> list[EditResult]:
        raise EditorError("out of memory")


GUARDED = GuardedEditor(Negative(), FrontOnly(), instruction="invert it")


@pytest.fixture(autouse=True, scope="module")
def loaded() -> Iterator[None]:
    """The editor's weights are not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EditRequest, "load", lambda edit: None if edit.raw else GUARDED)
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    options = DemoCommand(out=out, episodes=2, max_steps=3)
    result = run_demo(options, progress=False)
    assert result.store == out / "episodes.zarr" and result.report == out / "report.html"
    assert (result.summary.episodes, result.summary.steps) == (2, 6)
    return out


@pytest.mark.slow
def test_demo_store_has_raw_and_edited_frames_geometry_and_verdicts(demo: Path) -> None:
    store = EpisodeStore.open(demo / "episodes.zarr")
    assert store.metadata.editor_id == "negative@00"
    assert store.metadata.instruction == "invert it"
    assert store.metadata.provenance["policy"] == "expert"
    assert list(store.seeds) == [0, 1]
    for episode in store:
        assert np.array_equal(episode["front_rgb"], 255 - episode["front_raw"])
        assert np.array_equal(episode["wrist_rgb"], episode["wrist_raw"])
        assert episode["realism_front_edited"].all()
        assert not episode["realism_wrist_edited"].any()
        assert np.allclose(episode["realism_wrist_moved_px"], 0.9)
        assert (episode["front_depth"] > 0).all() and len(episode["action"]) == 3


@pytest.mark.slow
def test_demo_page_shows_both_cameras(demo: Path) -> None:
    page = (demo / "report.html").read_text("utf-8")
    assert "SpieRobo/Push-v0" in page and "6 of 12 frames" in page


@pytest.mark.slow
def test_demo_replaces_a_demo_and_nothing_else(demo: Path, tmp_path: Path) -> None:
    options = DemoCommand(out=demo, episodes=1, max_steps=2)
    assert run_demo(options, progress=False).summary.steps == 2
    before = sorted(path.name for path in options.out.iterdir())
    with StoreLock(options.out / "demo"):  # another demo runs there
        with pytest.raises(StoreLockedError, match=f"written by process {os.getpid()}"):
            run_demo(options, progress=False)
    assert {*before, ".demo.lock"} >= {path.name for path in options.out.iterdir()}
    assert len(EpisodeStore.open(demo / "episodes.zarr")) == 1
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    with pytest.raises(ConfigError, match="no demo wrote"):
        run_demo(dataclasses.replace(options, out=tmp_path))
    with pytest.raises(ConfigError, match="there is a file"):
        run_demo(dataclasses.replace(options, out=thesis))
    assert thesis.read_text() == "years of work" and [*tmp_path.iterdir()] == [thesis]
    for env in ("SpieRobo/Psh-v0", "CartPole-v1"):  # an older demo stays until a new one can begin
        with pytest.raises(EnvError):
            run_demo(dataclasses.replace(options, env=env))
    assert len(EpisodeStore.open(demo / "episodes.zarr")) == 1


@pytest.mark.slow
def test_a_demo_goes_into_the_folder_where_one_stands_and_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    options = DemoCommand(out=Path("."), episodes=1, max_steps=1)
    for out in (Path("."), tmp_path / "link"):
        run_demo(dataclasses.replace(options, out=out), progress=False)
        assert len(EpisodeStore.open(tmp_path / "real" / "episodes.zarr")) == 1
    assert (tmp_path / "link").is_symlink()


def test_failed_demo_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = DemoCommand(out=tmp_path / "d", episodes=1, max_steps=2)
    broken = dataclasses.replace(GUARDED, editor=Broken())
    monkeypatch.setattr(EditRequest, "load", lambda edit: broken)
    with pytest.raises(EditorError, match="out of memory"):
        run_demo(options, progress=False)
    assert not (options.out / "episodes.zarr").exists()
    assert not (options.out / "report.html").exists()


def test_record_is_raw_and_repeatable(tmp_path: Path) -> None:
    options = RecordCommand(
        env="SpieRobo/Reach-v0",
        episodes=1,
        out=tmp_path / "a.zarr",
        policy="random",
        max_steps=3,
        image_size=32,
        edit=EditRequest(editor=None, seed=5),
    )
    assert record(options, progress=False).steps == 3
    record(dataclasses.replace(options, out=tmp_path / "b.zarr"), progress=False)
    first, second = (EpisodeStore.open(tmp_path / f"{name}.zarr") for name in "ab")
    assert first.fingerprint() == second.fingerprint()
    assert first[0]["front_rgb"].shape == (3, 32, 32, 3)
    assert "front_raw" not in first.keys and list(first.seeds) == [5]
    assert first.metadata.editor_id == "" and first.metadata.provenance["policy"] == "random"
    with pytest.raises(StoreError, match=r"a\.zarr"):
        record(options, progress=False)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("SpieRobo/Pussh-v0", "cannot be made.*SpieRobo/Push-v0"),
        ("no_such_module:Thing-v0", "no_such_module"),
    ],
)
def test_unknown_environments_are_named(env: str, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_env(env, None)


def test_environment_without_a_size_or_expert_or_images(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="width"):
        make_env("CartPole-v1", None, image_size=32)
    options = RecordCommand(
        env="CartPole-v1", episodes=1, out=tmp_path / "c.zarr", edit=EditRequest(editor=None)
    )
    with pytest.raises(EnvError, match="expert"):
        record(options, progress=False)
    with pytest.raises(EnvError, match="image"):
        record(dataclasses.replace(options, policy="random"), progress=False)
    assert not options.out.exists()


def test_random_policy_repeats_by_seed() -> None:
    policy = RandomPolicy(gym.spaces.Box(-1, 1, (3,), np.float32))

    def actions(seed: int) -> np.ndarray:
        policy.reset(seed)
        return np.stack([policy.act({}) for _ in range(4)])

    assert np.array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
