from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spie_robo.editor import Editor
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError
from spie_robo.pretraining.config import (
    AutoencoderConfig,
    LoopConfig,
    PretrainConfig,
    RefinementConfig,
    UnetConfig,
)
from spie_robo.pretraining.instructions import GENERIC_INSTRUCTIONS, build_tokenizer, tokenize
from spie_robo.pretraining.judge import JudgeTrainingConfig
from spie_robo.pretraining.pairs import PairsConfig, load_pairs, render_pairs
from spie_robo.pretraining.run import pretrain
from spie_robo.settings.yaml_files import load_config
from spie_robo.types import Frame

pytest.importorskip("mitsuba", reason="rendering pairs needs the photoreal extra")


def tiny_config(folder: Path) -> PretrainConfig:
    return PretrainConfig(
        out=str(folder / "run"),
        export_to=str(folder / "shipped"),
        held_out_shards=1,
        threads=1,
        editing=EditorSettings(steps=2, guidance=Guidance(1, 1, 1), resolution=128),
        pairs=PairsConfig(
            folder=str(folder / "pairs"),
            shards=2,
            styles_per_shard=1,
            scenes_per_style=5,
            samples=1,
            workers=1,
        ),
        judge=JudgeTrainingConfig(
            pairs=folder / "pairs", out=folder / "judge", steps=1, batch_size=1
        ),
        autoencoder=AutoencoderConfig(shards=1),
        unet=UnetConfig(
            widths=(16, 32),
            text_dim=32,
            optimizer=LoopConfig(steps=2, batch=2, learning_rate=1e-3, checkpoint_every=1),
        ),
        refinement=RefinementConfig(
            optimizer=LoopConfig(steps=2, batch=2, learning_rate=1e-3, checkpoint_every=1),
        ),
    )


@pytest.mark.slow
def test_from_nothing_to_an_editor_that_edits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path)
    pretrain(config)
    printed = capsys.readouterr().out
    assert (tmp_path / "judge" / "judge.safetensors").exists()
    assert "autoencoder, twin frames" in printed and "Next: spie-robo demo" in printed

    pairs = load_pairs(config.pairs.folder, range(2))
    assert pairs["simulator_rgb"].shape == (10, 128, 128, 3)
    assert len(np.unique(pairs["style_id"])) == 2 and len(np.unique(pairs["scene_id"])) == 10
    assert not np.array_equal(pairs["twin_rgb"][0], pairs["simulator_rgb"][0])

    editor = Editor.from_pretrained(tmp_path / "shipped")
    assert editor.settings.steps == 2 and editor.settings.guidance == Guidance(1.0, 1.0, 1.0)
    frame = Frame(pairs["simulator_rgb"][0])
    first, second = (editor.edit([frame], seeds=[3])[0].rgb for _ in "ab")
    assert first.shape == frame.rgb.shape and np.array_equal(first, second)
    assert not np.array_equal(first, frame.rgb)
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "5 frames" in card and "Held out" in card
    assert json.loads((tmp_path / "shipped" / "spie" / "config.json").read_text())[
        "residual_latents"
    ]

    shard = config.pairs.shard_path(1)
    written = shard.stat().st_mtime_ns
    pretrain(replace(config, stage="unet"))
    assert shard.stat().st_mtime_ns == written
    assert (
        Editor.from_pretrained(tmp_path / "run" / "editor").id.split("@")[1]
        == (editor.id.split("@")[1])
    )


@pytest.mark.slow
def test_a_shard_is_a_function_of_the_config(tmp_path: Path) -> None:
    shards = []
    for name in ("first", "second"):
        config = replace(tiny_config(tmp_path).pairs, folder=str(tmp_path / name), shards=1)
        render_pairs(config)
        shards.append(config.shard_path(0).read_bytes())
        assert not list((tmp_path / name).glob("*.partial"))
    assert shards[0] == shards[1]


def test_refinement_asks_for_an_unrefined_editor(tmp_path: Path) -> None:
    config = replace(tiny_config(tmp_path), stage="refine")
    for index in range(2):
        config.pairs.shard_path(index).parent.mkdir(exist_ok=True)
        config.pairs.shard_path(index).touch()
    with pytest.raises(ConfigError, match="'unet' stage first"):
        pretrain(config)


def test_missing_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shard_00003"):
        load_pairs(tmp_path, range(3, 4))


def test_the_shipped_config_is_valid() -> None:
    path = Path(__file__).parents[2] / "configs" / "pretrain" / "embedded.yaml"
    config = load_config(PretrainConfig, path)
    assert set(config.judging_shards).isdisjoint(config.training_shards)
    default = PretrainConfig()
    assert config.unet == default.unet and config.pairs == default.pairs
    assert config.refinement == default.refinement


def test_impossible_stages_are_refused() -> None:
    with pytest.raises(ConfigError, match="stage"):
        PretrainConfig(stage="vae")
    with pytest.raises(ConfigError, match="low <= high"):
        RefinementConfig(noise=(0.5, 0.2))
    with pytest.raises(ConfigError, match="held_out_shards"):
        PretrainConfig(held_out_shards=32)


def test_the_tokenizer_knows_the_instructions_and_survives_any_text() -> None:
    tokenizer = build_tokenizer()
    ids = tokenize(tokenizer, [*GENERIC_INSTRUCTIONS, "Grüße, 你好 🤖", ""])
    assert ids.dtype == torch.int64 and int(ids.max()) < len(tokenizer)
    used = (ids != tokenizer.pad_token_id).sum(dim=1)
    words = len(GENERIC_INSTRUCTIONS[0].split())
    assert int(used[0]) <= words + 2
