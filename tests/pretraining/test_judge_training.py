from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from spie_robo.errors import ConfigError
from spie_robo.guard.judge import GeometryJudge, JudgeConfig
from spie_robo.pretraining.judge import JudgeTrainingConfig, judge_loss, train_judge
from spie_robo.pretraining.judge_samples import collate, sample_batch
from spie_robo.pretraining.shards import PairShards

SIZE = 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 12 flat-coloured tabletops in 12 styles each."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    for shard in range(2):
        classes = np.zeros((12, SIZE, SIZE), np.uint8)
        classes[:, 20:] = 1
        for row in classes:
            top, left = generator.integers(24, 48, 2)
            row[top : top + 12, left : left + 12] = 3
            row[4:30, 8:20] = 2
        palettes = generator.integers(0, 256, (12, 5, 3)).astype(np.uint8)
        twins = np.stack([palette[row] for palette, row in zip(palettes, classes, strict=True)])
        arrays = {
            "simulator_rgb": palettes[0][classes],
            "twin_rgb": twins,
            "depth": (2.0 - 0.3 * classes).astype(np.float16),
            "classes": classes,
            "style_id": np.arange(12 * shard, 12 * shard + 12).astype(np.int32),
        }
        save_file(arrays, folder / f"shard_{shard:05d}.safetensors")
    return folder


@pytest.fixture
def config(pairs: Path, tmp_path: Path) -> JudgeTrainingConfig:
    return JudgeTrainingConfig(
        pairs=pairs,
        out=tmp_path / "judge",
        steps=4,
        batch_size=2,
        warmup=2,
        checkpoint_every=2,
        judge=JudgeConfig(size=SIZE, widths=(4, 8, 8, 8, 16)),
    )


def test_shards_split_by_style_and_read_back(pairs: Path) -> None:
    shards = PairShards(pairs)
    train, held_out = shards.split("train"), shards.split("held-out")
    assert len(shards) == 24 and len(train) + len(held_out) == 24
    assert sorted(shards.styles[held_out]) == [0, 10, 20]
    pair = shards[13]
    assert pair.style == 13 and pair.twin.rgb.shape == (SIZE, SIZE, 3)
    assert pair.twin.depth == pytest.approx(2.0 - 0.3 * pair.twin.classes, abs=2e-3)


def test_a_folder_without_shards_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Render pairs first"):
        PairShards(tmp_path)
    (tmp_path / "shard_00000.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="Render it again"):
        PairShards(tmp_path)


def test_the_same_generator_state_gives_the_same_bytes(pairs: Path) -> None:
    shards = PairShards(pairs)
    first, again, other = (
        sample_batch(shards, shards.split("train"), 6, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)


def test_loss_is_lower_for_the_right_answer(pairs: Path, config: JudgeTrainingConfig) -> None:
    shards = PairShards(pairs)
    batch = collate([shards[index].twin for index in range(3)])
    right = torch.nn.functional.one_hot(batch.classes, 5).movedim(-1, 1).float() * 10
    good, parts = judge_loss(batch.log_depth + 0.0, right, batch, config)
    offset, _ = judge_loss(batch.log_depth + 0.5, right, batch, config)
    bad, _ = judge_loss(batch.log_depth.flip(2), right.flip(2), batch, config)
    assert float(good) < 0.1 and parts["depth"] == 0
    assert float(offset) == pytest.approx(float(good) + config.depth_weight * 0.2 * 0.5, abs=1e-4)
    assert float(bad) > 10 * float(good)


def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(
    config: JudgeTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = GeometryJudge.load(train_judge(config))
    broken = replace(config, out=tmp_path / "broken")
    from spie_robo.pretraining import judge as module

    draw, calls = module.sample_batch, 0

    def killed_after_three(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "sample_batch", killed_after_three)
    with pytest.raises(KeyboardInterrupt):
        train_judge(broken)
    monkeypatch.undo()
    assert not (broken.out / "judge.safetensors").exists()
    resumed = GeometryJudge.load(train_judge(broken))
    for name, value in whole.head.state_dict().items():
        assert torch.equal(value, resumed.head.state_dict()[name]), name
    assert (broken.out / "metrics.json").exists()


def test_a_checkpoint_of_other_settings_is_refused(config: JudgeTrainingConfig) -> None:
    train_judge(config)
    with pytest.raises(ConfigError, match="other settings"):
        train_judge(replace(config, learning_rate=1e-4))
