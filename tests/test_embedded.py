"""The weights that ship: everything here runs the real embedded editor and the real guard."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import spie_robo.envs  # noqa: F401
from spie_robo.commands.convert import ConvertCommand, convert
from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import EpisodeStore, verify_store
from spie_robo.editing.request import EditRequest
from spie_robo.editor import Editor
from spie_robo.editor.presets import PRESETS
from spie_robo.errors import ReferencePhotoError
from spie_robo.types import Frame
from spie_robo.wrappers import RealismWrapper

LARGEST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained("embedded")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    env = gym.make("SpieRobo/Push-v0")
    observation, info = env.reset(seed=0)
    env.close()
    return [Frame(observation[c], c, info["geometry"][c]) for c in ("front", "wrist")]


def test_weights_are_safetensors_and_small() -> None:
    files = [path for path in PRESETS["embedded"].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES


def test_an_edit_depends_on_nothing_but_its_inputs(editor: Editor, frames: list[Frame]) -> None:
    together = editor.edit(frames, seeds=[4, 4])
    alone = [editor.edit([frame], seeds=[4])[0] for frame in reversed(frames)][::-1]
    for first, second in zip(together, alone, strict=True):
        assert np.array_equal(first.rgb, second.rgb)


def test_the_edit_follows_the_reference(editor: Editor, frames: list[Frame]) -> None:
    photos = [np.full((128, 128, 3), color, np.uint8) for color in ((60, 80, 130), (190, 140, 90))]
    blue, brown = (editor.edit(frames[:1], [photo], None, [0])[0].rgb for photo in photos)
    table = frames[0].geometry.segmentation == _id_of(frames[0], "table")  # type: ignore[union-attr]
    tint = [image[table].mean(axis=0)[0] - image[table].mean(axis=0)[2] for image in (blue, brown)]
    assert tint[1] > tint[0] + 40


def _id_of(frame: Frame, name: str) -> int:
    assert frame.geometry is not None and frame.geometry.segmentation is not None
    ids = [i for i, other in frame.geometry.names.items() if other == name]
    return max(ids, key=lambda i: int((frame.geometry.segmentation == i).sum()))


def test_wrapped_env_edits_both_cameras_and_rebuilds() -> None:
    env = RealismWrapper(gym.make("SpieRobo/Push-v0"))
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    for camera in ("front", "wrist"):
        result = info["realism"][camera]
        assert result.verdict is not None and result.verdict.source == "simulator"
        assert result.edited == (not np.array_equal(observation[camera], info["raw"][camera]))
    assert any(info["realism"][camera].edited for camera in ("front", "wrist"))
    rebuilt = gym.make(env.spec)
    again, _ = rebuilt.reset(seed=0)
    assert np.array_equal(again["front"], observation["front"])
    env.close()
    rebuilt.close()


@pytest.mark.slow
def test_record_then_convert_with_photos(tmp_path: Path) -> None:
    source, out, photos = tmp_path / "sim.zarr", tmp_path / "real.zarr", tmp_path / "photos"
    record(RecordCommand(env="SpieRobo/Reach-v0", episodes=1, out=source), progress=False)
    photos.mkdir()
    config = ConvertCommand(
        source=source, out=out, edit=EditRequest(editor="embedded", references=photos, steps=1)
    )
    with pytest.raises(ReferencePhotoError, match="photos"):
        convert(config, progress=False)
    assert not out.exists()
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(photos / "lab.png")
    convert(config, progress=False)
    assert verify_store(out).ok
    raw, edited = EpisodeStore.open(source)[0], EpisodeStore.open(out)[0]
    assert np.array_equal(raw["front_rgb"], edited["front_raw"])
    assert np.array_equal(raw["action"], edited["action"])
    changed = (edited["front_rgb"] != edited["front_raw"]).reshape(len(raw["action"]), -1)
    assert np.array_equal(changed.any(axis=1), edited["realism_front_edited"])
