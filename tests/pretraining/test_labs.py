from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spie_robo.editor import Editor
from spie_robo.editor.presets import LOOKS, PRESETS
from spie_robo.editor.references import LatentReferences
from spie_robo.envs.twin import Style
from spie_robo.pretraining import labs
from spie_robo.pretraining.config import PretrainConfig
from spie_robo.pretraining.run import pretrain
from spie_robo.types import Frame


@pytest.fixture
def shutter(monkeypatch):
    """Photos without a renderer: a plain colour for each style."""
    taken = []

    def photograph(style: Style, folder):
        taken.append(style.name)
        folder.mkdir(parents=True, exist_ok=True)
        color = np.random.default_rng(len(taken)).integers(0, 256, 3)
        for number in range(labs.PHOTOS):
            image = np.full((256, 256, 3), color, np.uint8)
            Image.fromarray(image).save(folder / f"photo_{number}.png")

    monkeypatch.setattr(labs, "photograph", photograph)
    return taken


def test_the_stage_leaves_the_photos_of_every_lab_as_references(tmp_path, shutter, capsys):
    config = PretrainConfig(
        out=str(tmp_path / "run"), stage="labs", export_to=str(tmp_path / "shipped"), threads=1
    )
    pretrain(replace(config, editing=replace(config.editing, resolution=64)))
    assert shutter == [f"style-{seed}" for seed in labs.LABS]
    assert len(list((tmp_path / "run/labs/together").glob("*.png"))) == 10 * labs.PHOTOS
    made, shipped = (LatentReferences.load(tmp_path / name) for name in ("run/labs", "shipped"))
    assert made is not None and shipped is not None and made.digest == shipped.digest
    assert made.stored.shape[0] == 50
    following = f"spie-robo convert IN OUT --references {tmp_path / 'run/labs/together'}"
    assert following in capsys.readouterr().out


def test_photos_are_taken_once(tmp_path):
    pytest.importorskip("mitsuba", reason="path-tracing needs the photoreal extra")
    for number in range(labs.PHOTOS):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / f"photo_{number}.png")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    labs.photograph("oak-lab", tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_preset_has_the_networks_of_embedded_and_photos_of_many_labs():
    editor, plain = (Editor.from_pretrained(name) for name in ("embedded-labs", "embedded"))
    assert editor.weights_hash == plain.weights_hash
    assert editor.id.startswith("embedded-labs@")
    assert PRESETS["embedded-labs"] == PRESETS["embedded"] and "embedded-labs" in LOOKS
    assert isinstance(editor.references, LatentReferences)
    assert len(editor.references.stored) == len(labs.LABS) * labs.PHOTOS
    frame = Frame(np.random.default_rng(0).integers(90, 160, (128, 128, 3), np.uint8))
    edits = editor.edit([frame] * 12, seeds=range(12))
    means = np.array([edit.rgb.reshape(-1, 3).mean(0) for edit in edits])
    assert means.std(0).mean() > 20  # grey levels: the labs differ
    assert len(np.unique(means.round(), axis=0)) > len(labs.LABS) / 2
    again = editor.edit([frame], seeds=[7])[0]
    assert np.array_equal(again.rgb, edits[7].rgb)
