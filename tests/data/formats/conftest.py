from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.store.metadata import CameraMetadata

TASKS = ("push the red cube", "push the green cube")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def smooth_frames(rng: np.random.Generator, steps: int, size: int = 32) -> np.ndarray:
    """Frames with edges and shading, as a video codec is made for."""
    y, x = np.mgrid[:size, :size]
    phase = rng.random(3) * 6
    shades = [128 + 100 * np.sin(x / 9 + y / 13 + p) for p in phase]
    frames = np.repeat(np.stack(shades, -1)[None], steps, 0)
    for t in range(steps):
        frames[t, 8:20, 4 + t % 8 : 14 + t % 8] = [220, 40, 40]
    return frames.astype(np.uint8)


def episode(i: int) -> dict[str, np.ndarray]:
    """Episode ``i``: always the same, of 4 to 11 steps, with every kind of array."""
    rng = np.random.default_rng(i)
    steps = int(rng.integers(4, 12))
    return {
        "action": rng.normal(size=(steps, 7)).astype(np.float32),
        "state": rng.normal(size=(steps, 1)).astype(np.float64),
        "reward": rng.random(steps).astype(np.float32),
        "success": np.arange(steps) == steps - 1,
        "timestamp": (np.arange(steps) / 10).astype(np.float32),
        "task_index": np.full(steps, i % 2, np.int64),
        "front_rgb": smooth_frames(rng, steps),
        "front_depth": rng.random((steps, 32, 32)).astype(np.float32),
        "front_segmentation": rng.integers(0, 4, (steps, 32, 32), np.int32),
        "wrist_rgb": smooth_frames(rng, steps),
        "strange-key_7": rng.integers(0, 9, (steps, 2, 3), np.int16),
    }


@pytest.fixture(scope="session")
def make_store() -> Callable[[Path], EpisodeStore]:
    """Makes a store of three episodes with two cameras, tasks, seeds and names in a folder."""

    def make(folder: Path) -> EpisodeStore:
        path = folder / "episodes.zarr"
        names = {0: "floor", 1: "cube"}
        cameras = {"front": CameraMetadata(((9, 0, 8), (0, 9, 8), (0, 0, 1)), names)}
        metadata = StoreMetadata(env_id="Env-v0", instruction="my lab", cameras=cameras)
        metadata = with_source(metadata, SourceRecord("elsewhere", tasks=TASKS, fps=10.0))
        with EpisodeWriter.create(path, metadata) as writer:
            for i in range(3):
                writer.add_episode(episode(i), seed=None if i == 1 else 40 + i)
        return EpisodeStore.open(path)

    return make


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory) -> EpisodeStore:
    """The store, which no test changes."""
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def same_episodes():
    return assert_same_episodes


def assert_same_episodes(found, expected, *, but: tuple[str, ...] = ()) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b) - set(but)
        for key in a:
            assert a[key].dtype == b[key].dtype, key
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
