from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError, FrameError
from spie_robo.guard import GeometryJudge, Judge
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.judge import WEIGHTS, JudgeConfig, resize
from spie_robo.types import RGB


@pytest.fixture
def judge() -> GeometryJudge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GeometryJudge()


def picture(height: int, width: int, seed: int) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_estimates_have_the_judge_s_size_whatever_the_picture_s(judge: GeometryJudge) -> None:
    assert isinstance(judge, Judge)
    for estimate in judge.estimate([picture(48, 64, 0), picture(300, 200, 1)]):
        assert estimate.log_depth.shape == estimate.classes.shape == (128, 128)
        assert estimate.log_depth.dtype == np.float32
        assert estimate.classes.max() < 5


def test_an_estimate_does_not_depend_on_its_neighbours(judge: GeometryJudge) -> None:
    images = [picture(128, 128, seed) for seed in range(3)]
    together, alone = judge.estimate(images)[2], judge.estimate(images[2:])[0]
    assert np.array_equal(together.log_depth, alone.log_depth)
    assert np.array_equal(together.classes, alone.classes)


def test_saving_and_loading_keeps_shape_and_estimates(tmp_path: Path) -> None:
    config = JudgeConfig(size=64, widths=(4, 8, 8, 8, 16))
    judge = GeometryJudge(config)
    judge.save(tmp_path / "judge.safetensors")
    loaded = GeometryJudge.load(tmp_path / "judge.safetensors")
    image = picture(64, 64, 0)
    assert loaded.config == config
    before, after = judge.estimate([image])[0], loaded.estimate([image])[0]
    assert np.array_equal(before.log_depth, after.log_depth)
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]


def test_a_missing_or_foreign_file_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights of a geometry judge"):
        GeometryJudge.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"broken\.safetensors"):
        GeometryJudge.load(tmp_path / "broken.safetensors")


def test_only_the_head_is_trained_and_shipped(judge: GeometryJudge, tmp_path: Path) -> None:
    assert sum(p.numel() for p in judge.parameters() if p.requires_grad) < 200_000
    judge.save(tmp_path / "judge.safetensors")
    assert (tmp_path / "judge.safetensors").stat().st_size < 3_000_000


def test_bad_input_is_refused(judge: GeometryJudge) -> None:
    with pytest.raises(FrameError, match="dtype float"):
        judge.estimate([np.zeros((64, 64, 3))])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="multiple of 16"):
        JudgeConfig(size=100)


def test_resizing_averages_over_areas() -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(200)
    small = resize(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), 128)
    assert small.min() == small.max() == 100


class TestShippedWeights:
    def test_they_read_a_tabletop_of_flat_colours(self) -> None:
        """A scene that no renderer made: wall, table, one red box."""
        image = np.full((128, 128, 3), (150, 155, 160), np.uint8)
        image[44:] = (140, 110, 80)
        image[80:98, 50:68] = (190, 30, 30)
        estimate = GeometryJudge.load().estimate([image])[0]
        assert (estimate.classes[82:96, 52:66] == GeometryClass.OBJECT).mean() > 0.8
        assert (estimate.classes[60:76] == GeometryClass.TABLE).mean() > 0.8
        assert (estimate.classes[:36] == GeometryClass.BACKGROUND).mean() > 0.8
        assert estimate.log_depth[10:30].mean() > estimate.log_depth[110:].mean()

    def test_they_are_small(self) -> None:
        assert WEIGHTS.stat().st_size < 3_000_000
