"""Small stores for policies: as this package writes them, and as Diffusion Policy's tools do."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from numpy.typing import NDArray

from spie_robo.data import EpisodeWriter, StoreMetadata
from spie_robo.policies.config import PolicyTrainConfig

_HELPERS = runpy.run_path(str(Path(__file__).with_name("demonstrations.py")))
episode = _HELPERS["episode"]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the tests' decoded frames out of the user's cache."""
    folder = tmp_path / "cache_home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., Path]:
    """Writes episodes: ``write_store(name, lengths, drop=keys, **settings)``."""

    def write(
        name: str = "a.zarr",
        lengths: tuple[int, ...] = (6, 9),
        *,
        drop: tuple[str, ...] = (),
        action_dim: int = 2,
        env_id: str = "Test/Env-v0",
        first: int = 0,
        change: Callable[[dict[str, NDArray]], object] = lambda rows: None,
    ) -> Path:
        path = tmp_path / name
        with EpisodeWriter.create(path, StoreMetadata(env_id=env_id)) as writer:
            for number, steps in enumerate(lengths, first):
                rows = episode(number, steps, action_dim)
                change(rows)
                kept = {key: value for key, value in rows.items() if key not in drop}
                writer.add_episode(kept, seed=number)
        return path

    return write


@pytest.fixture
def train_config(tmp_path: Path) -> Callable[..., PolicyTrainConfig]:
    """Settings of a run of seconds."""

    def build(*stores: Path, **changes: object) -> PolicyTrainConfig:
        settings = {
            "steps": 4,
            "batch_size": 4,
            "image_size": 16,
            "shift": 1,
            "action_steps": 2,
            "checkpoint_every": 2,
            "threads": 1,
        }
        return PolicyTrainConfig(stores, **{"out": tmp_path / "run", **settings, **changes})

    return build
