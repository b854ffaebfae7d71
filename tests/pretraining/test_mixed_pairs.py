"""Pairs of many simulators' looks: worlds, shards, and the training that reads them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spie_robo.editor.frame_geometry import CHANNELS
from spie_robo.editor.geometry_editor import GeometryEditor
from spie_robo.envs.twin.lab_styles import sample_lab_style
from spie_robo.errors import ConfigError
from spie_robo.pretraining import geometry_training, mixed_pairs, training_worlds
from spie_robo.pretraining.config import LoopConfig
from spie_robo.pretraining.geometry_training import (
    GeometryTrainingConfig,
    augment,
    train_geometry_editor,
)
from spie_robo.pretraining.mixed_pairs import (
    MixedPairsConfig,
    encode_depth,
    render_shard,
    unpack_depth,
)
from spie_robo.pretraining.mixed_shards import MixedShards
from spie_robo.pretraining.model_paint import ModelPaint
from spie_robo.pretraining.mujoco_world import LoadedModel, Orbit, PairWorld
from spie_robo.pretraining.training_worlds import HELD_OUT, TRAINING_WORLDS, kept_world
from spie_robo.types import Frame

os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported
mujoco = pytest.importorskip("mujoco")

DESK = """
<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <geom name="floor" type="plane" size="3 3 .1" pos="0 0 -.5"/>
    <geom name="table" type="box" size=".5 .5 .02" pos="0 0 -.02" rgba=".5 .5 .5 1"/>
    <body name="base"><geom type="cylinder" size=".05 .1" pos="0 0 .1"/>
      <body name="arm" pos="0 0 .2"><joint name="elbow" axis="0 1 0" range="-2 2"/>
        <geom type="capsule" fromto="0 0 0 0 0 .3" size=".03"/></body></body>
    <body name="cube" pos=".25 0 .03"><freejoint/><geom type="box" size=".03 .03 .03"/></body>
    <site name="goal" size=".02" pos=".2 .2 .05" rgba="0 1 0 1"/>
  </worldbody>
  <actuator><motor joint="elbow"/></actuator>
</mujoco>
"""
ORBIT = Orbit((0.1, 0.0, 0.1), (0.9, 1.3), (120, 240))


@pytest.fixture(scope="module")
def desk() -> PairWorld:
    model = mujoco.MjModel.from_xml_string(DESK)
    try:
        return PairWorld("desk", LoadedModel(model, ORBIT), 64)
    except Exception as error:
        pytest.skip(f"no EGL or OSMesa for MuJoCo's renderer: {error}")


def test_no_held_out_simulator_is_trained_on() -> None:
    assert {"robosuite", "metaworld", "panda_gym", "gym_aloha"} <= set(HELD_OUT)
    for name in ("robosuite", "metaworld", "panda-gym", "aloha"):
        assert not any(name in world for world in TRAINING_WORLDS)
    with pytest.raises(ConfigError, match="lift"):
        MixedPairsConfig(worlds=("lift",))
    source = Path(training_worlds.__file__).read_text().split("HELD_OUT =")[1].split("\n", 1)[1]
    assert not any(package in source for package in HELD_OUT)


def test_a_moment_is_a_function_of_its_seed(desk: PairWorld) -> None:
    one, other = (desk.sample(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_array_equal(one.depth, other.depth)
    assert not np.array_equal(one.rgb, desk.sample(np.random.default_rng(5)).rgb)


def test_geometry_of_a_moment_belongs_to_its_picture(desk: PairWorld) -> None:
    view = desk.sample(np.random.default_rng(1))
    assert set(np.unique(view.classes)) >= {0, 1, 2}
    assert (view.depth[view.instances < 0] == 0).all()
    assert (view.depth[view.instances >= 0] > 0.1).all()
    roles = {shape.instance: shape.role for shape in view.state.shapes}
    robot = np.isin(view.instances, [i for i, role in roles.items() if role == "robot"])
    np.testing.assert_array_equal(robot, view.classes == 2)


def test_paint_is_undone_and_leaves_what_is_not_seen() -> None:
    model = mujoco.MjModel.from_xml_string(DESK)
    before = model.geom_rgba.copy(), model.vis.headlight.diffuse.copy()
    paint = ModelPaint(model, ["background", "surface", "robot", "robot", "object"])
    changed = 0
    for seed in range(5):
        paint.paint(np.random.default_rng(seed))
        changed += int(not np.array_equal(model.geom_rgba, before[0]))
        np.testing.assert_array_equal(model.geom_rgba[:, 3], before[0][:, 3])
    assert changed >= 4
    paint.restore()
    np.testing.assert_array_equal(model.geom_rgba, before[0])
    np.testing.assert_array_equal(model.vis.headlight.diffuse, before[1])


def test_depth_code_keeps_millimetres() -> None:
    depth = np.array([[0, 0.011, 0.5, 1.0, 7.3, 99.0]], np.float32)
    back = unpack_depth(encode_depth(depth))
    assert back[0, 0] == 0
    np.testing.assert_allclose(back, depth, rtol=1.5e-4)


def test_labs_have_boards_polish_and_hard_light() -> None:
    styles = [sample_lab_style(seed) for seed in range(200)]
    assert styles[3] == sample_lab_style(3)
    boards = [style for style in styles if style.table.pattern == "planks"]
    polished = [style for style in styles if style.table.roughness < 0.25]
    hard = [style for style in styles if any(lamp.size < 0.4 for lamp in style.lamps)]
    assert len(boards) > 30 and len(polished) > 40 and len(hard) > 100


@pytest.fixture(scope="module")
def shards(desk: PairWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of two labs with three moments each, small."""
    folder = tmp_path_factory.mktemp("pairs")
    config = MixedPairsConfig(
        folder=str(folder), shards=2, styles_per_shard=2, scenes_per_style=3, size=64, samples=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed_pairs, "kept_world", lambda name, size, style: desk)
        lines = [render_shard(config, index) for index in range(2)]
    assert all("6 pairs" in line for line in lines)
    assert not list(folder.glob("*.partial"))
    return folder


def test_shards_give_pairs_back(shards: Path) -> None:
    pairs = MixedShards(shards, range(2))
    assert len(pairs) == 12
    batch = pairs.batch(torch.tensor([0, 7]), [[1, 2], [8, 6]])
    assert batch.inputs.shape == batch.targets.shape == (2, 3, 64, 64)
    assert batch.geometry.shape == (2, CHANNELS, 64, 64)
    assert batch.references.shape == (2, 2, 3, 64, 64)
    torch.testing.assert_close(batch.references[0, 0], pairs.rgb("target", 1))
    assert set(pairs.others_of_style(7).tolist()) == {6, 8}
    assert (batch.targets - batch.inputs).abs().mean() > 0.05


def test_shards_that_come_later_are_read(shards: Path, tmp_path: Path) -> None:
    names = sorted(shards.glob("*.safetensors"))
    (tmp_path / names[0].name).write_bytes(names[0].read_bytes())
    pairs = MixedShards(tmp_path, range(5))
    assert len(pairs) == 6
    (tmp_path / names[1].name).write_bytes(names[1].read_bytes())
    assert pairs.refresh() == 12
    (tmp_path / "mixed_00004.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="render"):
        pairs.refresh()
    with pytest.raises(ConfigError, match="none"):
        MixedShards(tmp_path / "empty", range(5))


def test_mirrored_batches_mirror_their_geometry(shards: Path) -> None:
    batch = MixedShards(shards, range(2)).batch(torch.arange(8), [[9]] * 8)
    found = augment(batch, 0.0, torch.Generator().manual_seed(0))
    mirrored = 0
    for index in range(8):
        own, other = batch.geometry[index], found.geometry[index]
        if torch.equal(own, other):
            assert torch.equal(batch.classes[index], found.classes[index])
            continue
        mirrored += 1
        assert torch.equal(own[2].flip(-1), -other[2]) and torch.equal(own[3].flip(-1), other[3])
        assert torch.equal(batch.classes[index].flip(-1), found.classes[index])
    assert 0 < mirrored < 8
    blind = augment(batch, 1.0, torch.Generator().manual_seed(0))
    assert blind.geometry.abs().max() == 0


def _config(shards: Path, out: Path, steps: int) -> GeometryTrainingConfig:
    optimizer = LoopConfig(
        steps=steps, batch=2, learning_rate=1e-3, warmup=2, checkpoint_every=2, bfloat16=False
    )
    return GeometryTrainingConfig(
        pairs=str(shards),
        out=str(out),
        shards=2,
        held_out_shards=1,
        widths=(32, 64),
        layers=1,
        token_dim=32,
        latent_channels=24,
        adversarial_from=1,
        optimizer=optimizer,
    )


@pytest.mark.slow
def test_training_resumes_to_the_same_bytes_and_leaves_an_editor(
    shards: Path, tmp_path: Path
) -> None:
    whole = train_geometry_editor(_config(shards, tmp_path / "whole", 4))
    calls: list[Any] = []

    def stop(*arguments: Any) -> str:
        calls.append(arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry_training, "held_out_preview", stop)
        with pytest.raises(KeyboardInterrupt):
            train_geometry_editor(_config(shards, tmp_path / "parts", 4))
    parts = train_geometry_editor(_config(shards, tmp_path / "parts", 4))
    assert len(calls) == 1
    assert whole.weights_hash == parts.weights_hash
    assert (tmp_path / "whole" / "grid_000004.png").exists()
    loaded = GeometryEditor.from_pretrained(tmp_path / "whole" / "editor")
    frame = np.zeros((64, 64, 3), np.uint8)
    assert loaded.edit([Frame(frame)])[0].rgb.shape == (64, 64, 3)


def test_composed_worlds_change_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []
    training_worlds._kept_world.cache_clear()
    monkeypatch.setattr(
        training_worlds, "make_world", lambda name, size, seed: made.append((name, seed))
    )
    for style in (0, 1, 60):
        kept_world("kitchen", 64, style)
        kept_world("desk-yam", 64, style)
    training_worlds._kept_world.cache_clear()
    assert made == [("kitchen", 0), ("desk-yam", 0), ("desk-yam", 10)]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="scenes_per_style"):
        MixedPairsConfig(scenes_per_style=1)
    with pytest.raises(ConfigError, match="multiple of 16"):
        MixedPairsConfig(size=100)
    with pytest.raises(ConfigError, match="held_out_shards"):
        GeometryTrainingConfig(held_out_shards=0)
    with pytest.raises(ConfigError, match="most_photos"):
        replace(GeometryTrainingConfig(), most_photos=9)
