from __future__ import annotations

import os

import gymnasium as gym
import numpy as np
import pytest

from spie_robo.data import (
    EpisodeStore,
    EpisodeWriter,
    StoreMetadata,
    describe_store,
    record_episodes,
    verify_store,
)
from spie_robo.data.store import fields
from spie_robo.errors import ConfigError, EnvError, StoreError
from spie_robo.types import Deviation, Geometry, GuardedEdit, GuardVerdict

SIZE = 16


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class TwoCameras(gym.Env):
    """A disguise: its frames show the time step, and it hands out the same arrays again."""

    def __init__(self, edited: bool = False, length: int = 4) -> None:
        image = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        state = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({"front": image, "wrist": image, "state": state})
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.edited, self.length = edited, length
        self.observation = {
            "front": np.zeros((SIZE, SIZE, 3), np.uint8),
            "wrist": np.zeros((SIZE, SIZE, 3), np.uint8),
            "state": np.zeros(3, np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.base = 0, seed * 10
        return self._observe(), self._info()

    def step(self, action):
        self.t += 1
        observation, info = self._observe(), self._info()
        return observation, float(action[0]), self.t == self.length, False, info

    def _observe(self):
        self.observation["front"][:] = self.base + self.t
        self.observation["wrist"][:] = self.base + self.t + 100
        self.observation["state"][:] = self.t
        return self.observation

    def _info(self):
        extrinsics = np.eye(4)
        extrinsics[0, 3] = self.t
        wrist = Geometry(
            depth=np.full((SIZE, SIZE), self.t, np.float32),
            segmentation=np.full((SIZE, SIZE), 5, np.int32),
            names={5: "cube"},
            intrinsics=np.diag([50.0, 50.0, 1.0]),
            extrinsics=extrinsics,
        )
        info = {"geometry": {"wrist": wrist}, "is_success": self.t == self.length}
        if self.edited:
            verdict = GuardVerdict(
                self.t % 2 == 0, (Deviation("outline", 0.5 + self.t, 0.9, False),), "", "simulator"
            )
            rgb = self.observation["front"].copy()
            info["raw"] = {"front": rgb // 2}
            info["realism"] = {"front": GuardedEdit(rgb, self.t % 2 == 0, verdict, 40 + self.t, 2)}
        return info


class Counting:
    def reset(self, seed=None):
        self.seed, self.t = seed, 0

    def act(self, observation):
        self.t += 1
        return np.array([self.t, observation["state"][0]], np.float32)


def test_row_t_holds_observation_action_and_its_reward(tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        summary = record_episodes(TwoCameras(), Counting(), 2, 3, writer, progress=False)
    assert (summary.episodes, summary.steps, summary.successes, summary.frames) == (2, 8, 2, 0)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.seeds.tolist() == [3, 4]
    for i, found in enumerate(store):
        t = np.arange(4)
        base = (3 + i) * 10
        assert set(found) == {
            "action", "reward", "success", "state", "front_rgb", "wrist_rgb",
            "wrist_depth", "wrist_segmentation", "wrist_extrinsics",
        }  # fmt: skip
        np.testing.assert_array_equal(found["front_rgb"][:, 0, 0, 0], base + t)
        np.testing.assert_array_equal(found["wrist_rgb"][:, 0, 0, 0], base + t + 100)
        np.testing.assert_array_equal(found["state"][:, 0], t)
        np.testing.assert_array_equal(found["action"], np.stack([t + 1, t], 1))
        np.testing.assert_array_equal(found["reward"], t + 1)
        np.testing.assert_array_equal(found["success"], t == 3)
        np.testing.assert_array_equal(found["wrist_depth"][:, 0, 0], t)
        np.testing.assert_array_equal(found["wrist_extrinsics"][:, 0, 3], t)
        assert found["wrist_extrinsics"].dtype == np.float32
    wrist = store.metadata.cameras["wrist"]
    assert wrist.names == {5: "cube"}
    np.testing.assert_array_equal(wrist.intrinsics_array(), np.diag([50.0, 50.0, 1.0]))


def test_verdicts_of_a_wrapped_env_are_recorded(tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        summary = record_episodes(TwoCameras(True), Counting(), 1, 0, writer, progress=False)
    assert (summary.frames, summary.accepted) == (4, 2)
    assert "50.0%" in str(summary)
    found = EpisodeStore.open(tmp_path / "s.zarr")[0]
    np.testing.assert_array_equal(found["front_raw"], found["front_rgb"] // 2)
    assert "wrist_raw" not in found
    assert found["realism_front_accepted"].tolist() == [True, False, True, False]
    assert found["realism_front_edited"].tolist() == [True, False, True, False]
    assert found["realism_front_attempts"].tolist() == [2] * 4
    assert found["realism_front_seed"].tolist() == [40, 41, 42, 43]
    assert found["realism_front_outline"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert np.isnan(found["realism_front_moved_px"]).all()
    assert {key for key in found if key.startswith("realism")} == set(fields.realism_keys("front"))


def test_an_env_without_images_is_named(tmp_path):
    env = gym.make("Pendulum-v1")
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        with pytest.raises(EnvError, match=r"no camera image.*got state: float32 \(3,\)"):
            record_episodes(env, Counting(), 1, 0, writer, progress=False)
        with pytest.raises(ConfigError, match="episodes=0"):
            record_episodes(TwoCameras(), Counting(), 0, 0, writer, progress=False)
    assert len(EpisodeStore.open(tmp_path / "s.zarr")) == 0


def test_a_registered_env_names_itself_and_no_other_may_follow(tmp_path):
    gym.register("Disguise/A-v0", TwoCameras, max_episode_steps=3)
    gym.register("Disguise/B-v0", TwoCameras)
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        env = gym.make("Disguise/A-v0", length=9, disable_env_checker=True)
        record_episodes(env, Counting(), 1, 0, writer, progress=False)
        other = gym.make("Disguise/B-v0", disable_env_checker=True)
        with pytest.raises(EnvError, match="recorded in Disguise/A-v0, this is Disguise/B-v0"):
            record_episodes(other, Counting(), 1, 0, writer, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.n_steps == 3
    assert store.metadata.env_spec["kwargs"] == {"length": 9}
    assert store.metadata.env_spec["max_episode_steps"] == 3
    assert store.metadata.env_spec["steps_per_second"] == TwoCameras.metadata.get("render_fps")


def test_a_policy_that_fails_discards_its_episode(tmp_path):
    class Failing(Counting):
        def act(self, observation):
            if self.seed == 1 and self.t == 2:
                raise RuntimeError("no action")
            return super().act(observation)

    seen = []
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        with pytest.raises(RuntimeError, match="no action"):
            record_episodes(
                TwoCameras(), Failing(), 5, 0, writer, progress=False,
                on_step=lambda episode, step, row: seen.append((episode, step)), max_steps=3,
            )  # fmt: skip
        assert writer.n_episodes == 1
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert EpisodeStore.open(tmp_path / "s.zarr").n_steps == 3
    assert verify_store(tmp_path / "s.zarr").ok


def test_observations_are_split_by_shape():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    low, images = fields.split_observation(image)
    assert (list(low), list(images)) == ([], ["camera"])
    low, images = fields.split_observation(np.zeros(3))
    assert (list(low), list(images)) == (["state"], [])
    low, images = fields.split_observation(
        {"robot": {"joints": np.zeros(7), "hand": image}, "n": 3}
    )
    assert (sorted(low), list(images)) == (["n", "robot_joints"], ["robot_hand"])
    for wrong in ({"action": np.zeros(2)}, {"text": "pick"}):
        with pytest.raises(EnvError, match="Observation"):
            fields.split_observation(wrong)


def test_stacked_rows_need_the_same_keys_and_shapes():
    rows = [{"a": np.zeros(2)}, {"a": np.ones(2)}]
    assert fields.stack_rows(rows)["a"].tolist() == [[0, 0], [1, 1]]
    for wrong in ({"b": np.zeros(2)}, {"a": np.zeros(3)}):
        with pytest.raises(StoreError, match="same"):
            fields.stack_rows([*rows, wrong])


def test_the_summary_says_what_is_in_a_store(tmp_path):
    metadata = StoreMetadata(env_id="", editor_id="swap@1", instruction="my lab")
    with EpisodeWriter.create(tmp_path / "s.zarr", metadata, zarr_format=2) as writer:
        empty = describe_store(writer.path)
        record_episodes(TwoCameras(True), Counting(), 2, 0, writer, progress=False, max_steps=3)
        record_episodes(TwoCameras(True), Counting(), 1, 0, writer, progress=False)
    assert (empty.episodes, empty.success_rate) == (0, None)
    summary = describe_store(tmp_path / "s.zarr")
    assert (summary.episodes, summary.steps, summary.zarr_format) == (3, 10, 2)
    assert (summary.shortest, summary.longest) == (3, 4)
    assert summary.success_rate == pytest.approx(1 / 3)
    assert summary.acceptance_rates == (("front", pytest.approx(0.6)),)
    assert summary.cameras == ("front", "wrist")
    text = str(summary)
    for expected in ("swap@1", "my lab", "33.3%", "60.0%", "front_raw", "(10, 16, 16, 3)"):
        assert expected in text
    on_disk = sum(f.stat().st_size for f in (summary.path / "data").rglob("*") if f.is_file())
    assert 0 < summary.disk_bytes <= on_disk
