"""``post_train()`` and ``spie-robo train`` from files to an adapter folder."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file

from spie_robo.cli import main
from spie_robo.editor.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from spie_robo.editor.editor import Editor
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import LatentReferences, PhotoReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import (
    ConfigError,
    EditorError,
    SpieRoboError,
    StoreError,
    StoreLockedError,
    TrainingError,
)
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.files.lock import StoreLock
from spie_robo.files.run_folder import LOGS
from spie_robo.settings.yaml_files import load_config
from spie_robo.training import run as training_run
from spie_robo.training import setup as training_setup
from spie_robo.training.checkpoint import epochs_folder
from spie_robo.training.config import TrainConfig
from spie_robo.training.progress import HISTORY
from spie_robo.training.run import DATA, post_train
from spie_robo.training.trainer import Trainer
from spie_robo.types import Frame, Geometry

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@pytest.fixture
def config(tiny, base_folder):
    """``config(**changes)``: two epochs of two inputs, on the base in ``base_folder``."""

    def build(**changes) -> TrainConfig:
        small = {"rollout__inputs": 2, "rollout__edits": 2, "optimizer__learning_rate": 1e-4}
        return tiny.settings(**{"editor": str(base_folder), "epochs": 2, **small, **changes})

    return build


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = [folder / ADAPTER_WEIGHTS, *sorted((folder / "spie").rglob("*.safetensors"))]
    assert len(files) == 3
    return {f"{file.name}:{k}": v for file in files for k, v in load_file(file).items()}


def front_matter(folder: Path) -> dict:
    text = (folder / "README.md").read_text()
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["nft", "spie"])
def test_a_run_leaves_an_adapter(
    config, base_folder, photo_folder, frame_folder, tmp_path, objective, capsys
):
    out = tmp_path / "runs" / "lab"
    settings = config(objective=objective, instruction="a wooden lab")
    line = str(post_train(photo_folder, frame_folder, out, settings, resume=False))
    assert "2 epochs" in line and str(out) in line and "\n" not in line

    published = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    published = {p for p in published if not p.startswith(("checkpoints/", "logs/"))}
    assert published == {
        ".gitignore", "README.md", "adapter_config.json", "adapter_model.safetensors",
        "preview.png", "references.safetensors", "settings.json", "spie/base.json",
        "spie/conv_in.safetensors", "spie/visual_prompt/config.json",
        "spie/visual_prompt/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    assert (out / ".gitignore").read_text().split() == ["checkpoints/", "logs/"]

    editor = Editor.from_pretrained(out, base=str(base_folder))
    assert editor.settings.instruction == "a wooden lab" and editor.settings.resolution == 32
    frame = Frame(cv2.imread(str(frame_folder / "0.png"))[..., ::-1].copy())
    edit = editor.edit([frame])[0].rgb
    assert edit.shape == (32, 32, 3)
    trained = tensors(out)
    plain = tensors_of_start(settings)
    assert any(not torch.equal(trained[name], plain[name]) for name in plain)

    half = Editor.from_pretrained(out, base=str(base_folder), dtype=torch.bfloat16)
    assert {p.dtype for p in half.pipeline.unet.parameters()} == {torch.bfloat16}
    assert half.edit([frame])[0].rgb.shape == (32, 32, 3)

    peft = PeftModel.from_pretrained(SpiePipeline.from_pretrained(base_folder).unet, out)
    merged = dict(peft.merge_and_unload().named_parameters())
    for name, parameter in editor.pipeline.unet.named_parameters():
        if name != "conv_in.weight":
            torch.testing.assert_close(parameter, merged[name])


def tensors_of_start(settings: TrainConfig) -> dict[str, torch.Tensor]:
    """The start of what is trained, besides the LoRA."""
    folder = Path(settings.editor) / "spie"
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.name}:{k}": v for file in files for k, v in load_file(file).items()}


@pytest.mark.slow
def test_what_a_run_tells(config, photo_folder, frame_folder, tmp_path, monkeypatch):
    out, known_before_saving = tmp_path / "lab", []
    save = Trainer._save

    def look(self) -> None:
        rows = json.loads((out / LOGS / HISTORY).read_text())
        known_before_saving.append([row["epoch"] for row in rows])
        save(self)

    monkeypatch.setattr(Trainer, "_save", look)
    post_train(photo_folder, frame_folder, out, config(), resume=False)
    assert known_before_saving == [[0, 1], [0, 1, 2]]
    history = json.loads((out / LOGS / HISTORY).read_text())
    assert [row["epoch"] for row in history] == [0, 1, 2]
    for row in history:
        assert np.isfinite([row["preview_semantic"], row["preview_structural"]]).all()
    assert all(np.isfinite(row["loss"]) for row in history[1:])
    assert list((out / LOGS).rglob("events.out.tfevents.*"))
    for name, columns in (("logs/epoch_00002.png", 4), ("preview.png", 3)):
        picture = cv2.imread(str(out / name))
        assert picture.shape == (2 * 32, columns * 32, 3)
    meta = front_matter(out)
    assert meta["library_name"] == "peft" and "base_model" not in meta  # a folder is no Hub id
    card = (out / "README.md").read_text()
    for told in ("2 photos, 6 simulator frames", "Seed 0", "`spie`", "preview.png", "decoded"):
        assert told in card
    assert card.count("\n| 0 |") == card.count("\n| 1 |") == card.count("\n| 2 |") == 1
    assert f"{history[2]['preview_semantic']:.4f}" in card
    assert f"photos are {history[0]['photos_apart']:.4f} apart" in card


@pytest.mark.slow
def test_without_references_no_published_file_shows_the_photos(
    config, base_folder, photo_folder, frame_folder, tmp_path
):
    out = tmp_path / "lab"
    post_train(photo_folder, frame_folder, out, config(save_references=False), resume=False)
    assert not list(out.rglob("references.safetensors"))
    assert "not in this folder" in (out / "README.md").read_text()
    photos = [cv2.imread(str(file)) for file in sorted(photo_folder.iterdir())]
    preview = cv2.imread(str(out / "preview.png"))
    for photo in photos:
        small = cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA)
        for y in range(0, preview.shape[0], 32):
            for x in range(0, preview.shape[1], 32):
                tile = preview[y : y + 32, x : x + 32].astype(float)
                assert np.abs(tile - small).mean() > 5
    editor = Editor.from_pretrained(out, base=str(base_folder))
    assert editor.references is None


@pytest.mark.slow
def test_an_editor_trained_without_a_visual_prompt_is_loaded_without_one(
    config, base_folder, photo_folder, frame_folder, tmp_path
):
    """The base's own photos would make another editor of it."""
    base, out = tmp_path / "prompted", tmp_path / "lab"
    shutil.copytree(base_folder, base)
    photos = PhotoReferences((np.full((32, 32, 3), 90, np.uint8),))
    latents = photos.latents(SpiePipeline.from_pretrained(base).vae, 32, 32)
    LatentReferences(latents).save(base)
    settings = config(editor=str(base), epochs=1, use_references=False)
    post_train(photo_folder, frame_folder, out, settings, resume=False)
    assert Editor.from_pretrained(str(base)).references is not None
    assert Editor.from_pretrained(out, base=str(base)).references is None
    assert "trained without a visual prompt" in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_base_by_a_relative_path_is_not_looked_for_elsewhere(
    config, base_folder, photo_folder, frame_folder, tmp_path, monkeypatch
):
    out = tmp_path / "lab"
    monkeypatch.chdir(base_folder.parent)
    post_train(
        photo_folder, frame_folder, out, config(editor=base_folder.name, epochs=1), resume=False
    )
    monkeypatch.chdir("/")
    with pytest.raises(EditorError, match=r"its base '/.*base' lies outside.*base="):
        Editor.from_pretrained(out)
    assert Editor.from_pretrained(out, base=str(base_folder)).references is not None


@pytest.mark.slow
def test_a_damaged_adapter_is_named(config, base_folder, photo_folder, frame_folder, tmp_path):
    out = tmp_path / "lab"
    post_train(photo_folder, frame_folder, out, config(epochs=1), resume=False)
    about = json.loads((out / ADAPTER_CONFIG).read_text())
    for wrong, named in (
        ({"r": 3}, r"Adapter .*lab"),
        ({"r": "8"}, r"lab/adapter_config\.json: r: expected a number from 1 to 1024, got '8'"),
        ({"target_modules": ["nowhere"]}, r"Adapter .*lab"),
    ):
        (out / ADAPTER_CONFIG).write_text(json.dumps(about | wrong))
        with pytest.raises(EditorError, match=named):
            Editor.from_pretrained(out, base=str(base_folder))
    (out / ADAPTER_CONFIG).write_text(json.dumps(about))
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps(settings | {"instruction": None}))
    with pytest.raises(ConfigError, match="instruction: expected text"):
        Editor.from_pretrained(out, base=str(base_folder))


@pytest.mark.slow
def test_resuming_equals_running_through(config, photo_folder, frame_folder, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    post_train(photo_folder, frame_folder, one, config(epochs=3), resume=False)
    post_train(photo_folder, frame_folder, two, config(epochs=1), resume=False)
    with pytest.raises(ConfigError, match=r"holds a run \(epoch_00001\).*--resume"):
        post_train(photo_folder, frame_folder, two, config(epochs=3), resume=False)
    with pytest.raises(ConfigError, match="seed was 0, is 1"):
        post_train(photo_folder, frame_folder, two, config(epochs=3, seed=1), resume=True)
    fewer = tmp_path / "fewer"
    shutil.copytree(photo_folder, fewer)
    sorted(fewer.iterdir())[0].unlink()
    with pytest.raises(ConfigError, match="begun with other photos"):
        post_train(fewer, frame_folder, two, config(epochs=3), resume=True)
    begun = (two / LOGS / DATA).read_text()
    (two / LOGS / DATA).write_text(begun[:20])
    with pytest.raises(TrainingError, match=r"data\.json is broken"):
        post_train(photo_folder, frame_folder, two, config(epochs=3), resume=True)
    (two / LOGS / DATA).write_text(begun)
    before = tensors(two)
    post_train(photo_folder, frame_folder, two, config(epochs=3), resume=True)
    expected, found = tensors(one), tensors(two)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(found[name], before[name]) for name in before)
    rows = [json.loads((out / LOGS / "history.json").read_text()) for out in (one, two)]
    assert [row["preview_semantic"] for row in rows[0]] == [
        row["preview_semantic"] for row in rows[1]
    ]
    assert (one / "README.md").read_text() == (two / "README.md").read_text()
    # all epochs are done: nothing is left to do, and the adapter is what it was
    post_train(photo_folder, frame_folder, two, config(epochs=3), resume=True)
    assert all(torch.equal(tensors(two)[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_what_a_cut_off_run_shows_goes_back_to_its_checkpoint(
    config, photo_folder, frame_folder, tmp_path, monkeypatch
):
    out, save, seen = tmp_path / "lab", Trainer._save, []

    def cut_off(self) -> None:
        seen.append(json.loads((out / LOGS / HISTORY).read_text()))
        if self.position.epoch == 3:
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(Trainer, "_save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        post_train(
            photo_folder, frame_folder, out, config(epochs=3, optimizer__learning_rate=0.1), False
        )
    assert [row["epoch"] for row in seen[-1]] == [0, 1, 2, 3]
    shown = [cv2.imread(str(out / LOGS / f"epoch_0000{n}.png")) for n in (2, 3)]
    assert not np.array_equal(*shown)

    post_train(
        photo_folder, frame_folder, out, config(epochs=2, optimizer__learning_rate=0.1), True
    )
    assert json.loads((out / LOGS / HISTORY).read_text()) == seen[-1][:3]
    assert not (out / LOGS / "epoch_00003.png").exists()
    for file in (out / LOGS / "preview.png", out / "preview.png"):
        assert np.array_equal(cv2.imread(str(file)), shown[0][:, : 3 * 32])
    assert not list(out.rglob("*.partial"))


@pytest.mark.slow
def test_a_base_that_changed_is_not_resumed(
    config, base, base_folder, photo_folder, frame_folder, tmp_path
):
    out = tmp_path / "lab"
    post_train(photo_folder, frame_folder, out, config(epochs=1), resume=False)
    other = base()
    with torch.no_grad():
        other.unet.conv_out.bias += 1
    other.save_pretrained(base_folder)
    with pytest.raises(ConfigError, match="trained on a base with weights"):
        post_train(photo_folder, frame_folder, out, config(epochs=2), resume=True)
    with pytest.raises(EditorError, match="trained on a base with weights"):
        Editor.from_pretrained(out, base=str(base_folder))
    with pytest.raises(EditorError, match=r"outside the folder.*base="):
        Editor.from_pretrained(out)  # a folder elsewhere must be named
    (epochs_folder(out).checkpoints()[-1] / "adapter" / "spie" / "base.json").unlink()
    with pytest.raises(TrainingError, match=r"base\.json is broken"):
        post_train(photo_folder, frame_folder, out, config(epochs=2), resume=True)


@pytest.fixture
def instruct_pix2pix(tiny_stock, tmp_path, tiny):
    """A stock pipeline folder of random weights, and the shipped settings cut to its size."""
    folder = tmp_path / "ip2p"
    tiny_stock("EulerAncestralDiscreteScheduler").save_pretrained(folder)
    EditorSettings(steps=2, resolution=32).save(folder)
    shipped = load_config(TrainConfig, CONFIGS / "instruct_pix2pix.yaml")
    feedback = dataclasses.replace(shipped.feedback, depth_judge="embedded", patch_judge="embedded")
    rollout = dataclasses.replace(shipped.rollout, inputs=2, steps=3)
    return dataclasses.replace(
        shipped, editor=str(folder), precision="no", epochs=2, preview=2, frames=6,
        rollout=rollout, feedback=feedback,
    )  # fmt: skip


@pytest.mark.slow
def test_instruct_pix2pix_trains_and_edits_unchanged(
    instruct_pix2pix, photo_folder, frame_folder, tmp_path
):
    assert instruct_pix2pix.gradient_checkpointing
    found = {}
    for checkpointing in (True, False):
        config = dataclasses.replace(instruct_pix2pix, gradient_checkpointing=checkpointing)
        out = tmp_path / f"lab_{checkpointing}"
        post_train(photo_folder, frame_folder, out, config, resume=False)
        found[checkpointing] = tensors(out)
    for name, tensor in found[True].items():
        torch.testing.assert_close(tensor, found[False][name], atol=1e-5, rtol=1e-4)
    style = found[True]["conv_in.safetensors:weight"]
    assert style.abs().max() > 0  # of a stock pipeline they start at zero
    editor = Editor.from_pretrained(tmp_path / "lab_True", base=instruct_pix2pix.editor)
    assert type(editor.pipeline.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert editor.settings.instruction == "make it look like a photo of the lab"
    frame = Frame(cv2.imread(str(frame_folder / "0.png"))[..., ::-1].copy())
    edit = editor.edit([frame])[0].rgb
    plain = Editor.from_pretrained(instruct_pix2pix.editor, settings=editor.settings)
    assert edit.shape == (32, 32, 3)
    assert not np.array_equal(edit, plain.edit([frame], references=photo_folder)[0].rgb)


def test_what_changes_nothing_stops_with_the_reason(
    config, photo_folder, frame_folder, tmp_path, monkeypatch
):
    from spie_robo.feedback.records import Scores

    def nothing(inputs, edits):
        return torch.full((len(inputs), len(edits[0])), float("nan"))

    class NoScores:
        semantic = SimpleNamespace(score=nothing)

        def score(self, inputs, edits):
            return Scores(nothing(inputs, edits), nothing(inputs, edits))

    monkeypatch.setattr(training_setup, "build_feedback", lambda *_: NoScores())
    out = tmp_path / "lab"
    with pytest.raises(TrainingError, match="2 epochs in a row"):
        post_train(
            photo_folder, frame_folder, out, config(epochs=9, optimizer__max_skipped=2),
            resume=False,
        )  # fmt: skip
    assert not (out / ADAPTER_CONFIG).exists()
    assert epochs_folder(out).checkpoints()[-1].name == "epoch_00002"


def looks_like_an_adapter(out: Path) -> bool:
    return (out / ADAPTER_CONFIG).exists() or bool(epochs_folder(out).checkpoints())


@pytest.mark.parametrize(
    ("region", "error"),
    [({"region": "names", "region_names": ("cube",)}, SpieRoboError)],
)
def test_pictures_have_no_names(config, photo_folder, frame_folder, tmp_path, region, error):
    feedback = FeedbackConfig(structure="monocular", **region)
    with pytest.raises(error, match="segmentation"):
        post_train(photo_folder, frame_folder, tmp_path / "lab", config(feedback=feedback), False)
    assert not looks_like_an_adapter(tmp_path / "lab")


def named(frame: Frame) -> Frame:
    """A frame with a table in its lower half."""
    half = np.zeros(frame.rgb.shape[:2], np.int32)
    half[len(half) // 2 :] = 1
    return Frame(frame.rgb, frame.camera, Geometry(None, half, {0: "robot", 1: "table"}))


@pytest.mark.parametrize("kind", ["named", "bare"])
def test_surroundings_are_what_the_simulator_names(config, tiny, photo_folder, capsys, kind):
    frames = [Frame(frame.rgb, frame.camera) for frame in tiny.frames(4, 32)]
    frames = [named(frame) for frame in frames] if kind == "named" else frames
    feedback = FeedbackConfig(structure="monocular", region="surroundings")
    run = training_setup.prepare(config(feedback=feedback), check_photos(photo_folder), frames)
    said = capsys.readouterr().out
    if kind == "named":
        assert run.config.feedback.region_names == ("table",) and "table" in said
        regions = (*run.data.frame_regions, *run.preview.frame_regions)
        assert len(regions) == 4
        assert all(not region[0].any() and region[-1].all() for region in regions)
    else:
        assert run.config.feedback.region == "frame" and "whole frame" in said
        assert set(run.data.frame_regions) == {None}


def test_two_runs_in_one_folder_are_refused(config, photo_folder, frame_folder, tmp_path):
    out = tmp_path / "lab"
    with (
        StoreLock(out / LOGS / "run"),
        pytest.raises(StoreLockedError, match=rf"written by process {os.getpid()}"),
    ):
        post_train(photo_folder, frame_folder, out, config(epochs=1), resume=False)
    assert post_train(photo_folder, frame_folder, out, config(epochs=1), resume=False)


class _PreparedError(Exception):
    """Ends a run where its frames are known."""


@pytest.mark.parametrize("count", [12, 6])
def test_previews_come_from_every_camera(config, tiny, photo_folder, tmp_path, monkeypatch, count):
    drawn = [
        Frame(frame.rgb, "front" if i < count // 2 else "wrist")
        for i, frame in enumerate(tiny.frames(count))
    ]
    prepared = []

    def prepare(config, photos, frames, logs):
        prepared.extend(frames)
        raise _PreparedError

    monkeypatch.setattr(training_run, "sample_frames", lambda *_, **__: drawn)
    monkeypatch.setattr(training_run, "prepare", prepare)
    with pytest.raises(_PreparedError):
        post_train(photo_folder, tmp_path, tmp_path / "out", config(preview=4), resume=False)
    held_out = [frame.camera for frame in prepared[: min(4, count // 2)]]
    assert set(held_out) == {"front", "wrist"}
    assert {id(frame) for frame in prepared} == {id(frame) for frame in drawn}


def test_one_frame_is_too_few(config, tiny, photo_folder, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), tiny.frames(1, 32)[0].rgb)
    with pytest.raises(StoreError, match="2 or more"):
        post_train(photo_folder, folder, tmp_path / "lab", config(), False)
    assert not (tmp_path / "lab").exists()


def test_out_must_be_a_folder_of_its_own(config, base_folder, photo_folder, frame_folder, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for out, match in (
        (file, "this is a file"),
        (photo_folder, "not an input"),
        (frame_folder, "not an input"),
        (base_folder, "not an input"),
    ):
        with pytest.raises(ConfigError, match=match):
            post_train(photo_folder, frame_folder, out, config(), False)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / ADAPTER_CONFIG).write_text("{}")
    with pytest.raises(ConfigError, match="holds a finished result already"):
        post_train(photo_folder, frame_folder, strange, config(), False)
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"new or an empty folder, found 'README\.md'"):
        post_train(photo_folder, frame_folder, project, config(), False)
    assert [file.name for file in project.iterdir()] == ["README.md"]
    begun = tmp_path / "begun"
    (begun / LOGS).mkdir(parents=True)
    (begun / "checkpoints" / "epoch_00001.partial").mkdir(parents=True)
    (begun / ".gitignore").touch()
    resumed = post_train(photo_folder, frame_folder, begun, config(epochs=1), True)
    assert resumed.out == begun
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        post_train(photo_folder, frame_folder, strange, config(), True)


# The command


@pytest.fixture
def command(config, photo_folder, frame_folder, tmp_path):
    """``command(...)``: the words of a run with a YAML file; later flags win."""
    values = json.loads(json.dumps(dataclasses.asdict(config())))
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(values))

    def words(*more: str, references=photo_folder, frames=frame_folder, out=tmp_path / "lab"):
        paths = ("--references", str(references), "--frames", str(frames), "--out", str(out))
        return ["train", "--config", str(file), *paths, *more]

    return words


@pytest.mark.slow
def test_the_command_trains(command, photo_folder, tmp_path, capsys):
    for file in sorted(photo_folder.iterdir())[1:]:
        file.unlink()
    out = tmp_path / "lab"
    assert main(command("--epochs", "1", "--objective", "nft", "--no-references")) == 0
    printed = capsys.readouterr().out
    assert "one photo" in printed and "1 epochs" in printed
    assert "Next: spie-robo evaluate --frames" in printed and str(out) in printed
    assert (out / ADAPTER_CONFIG).is_file() and not (out / "references.safetensors").exists()
    marker = json.loads((epochs_folder(out).checkpoints()[-1] / "complete.json").read_text())
    assert marker["settings"]["objective"] == "nft" and marker["epoch"] == 1
    # without --resume the run is left alone
    assert main(command("--epochs", "1", "--objective", "nft", "--no-references")) == 2
    assert "--resume" in capsys.readouterr().err


def test_the_command_refuses_what_it_cannot_use(
    command, base_folder, photo_folder, frame_folder, tmp_path, capsys
):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.jpg").write_bytes(b"no photo")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / ADAPTER_CONFIG).write_text('{"base_model_name_or_path": "embedded"}')
    cases = [
        (command(references=empty), "found none"),
        (command(references=tmp_path / "nowhere"), "nowhere"),
        (command(references=broken), "0.jpg"),
        (command(frames=tmp_path / "nowhere"), "nowhere"),
        (command(frames=empty), "empty"),
        (command("--editor", str(adapter)), "is an adapter"),
        (command("--editor", str(tmp_path / "nothing")), "nothing"),
        (command("--epochs", "0"), "epochs"),
        (command("--resume", out=photo_folder), "not an input"),
        (["train", "--config", str(tmp_path / "no.yaml"), *command()[3:]], "no.yaml"),
    ]
    for words, told in cases:
        assert main(words) == 2, told
        error = capsys.readouterr().err
        assert told in error and "Traceback" not in error
        assert not looks_like_an_adapter(tmp_path / "lab"), told


def test_a_judge_folder_without_weights_is_refused(command, config, tmp_path, capsys):
    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    values = json.loads(json.dumps(dataclasses.asdict(config(feedback__patch_judge=str(folder)))))
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    assert main(command()) == 2
    assert str(folder) in capsys.readouterr().err
    assert not looks_like_an_adapter(tmp_path / "lab")
