from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from spie_robo.editor.adapter import save_adapter
from spie_robo.editor.digest import weights_digest
from spie_robo.editor.presets import load_editor
from spie_robo.editor.references import LatentReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, EditorError, TrainingError
from spie_robo.files.run_folder import FOLDER, MARKER
from spie_robo.training.checkpoint import epochs_folder, load_training_state

OBJECTIVES = ["spie", "nft"]
SMALL = {"rollout__inputs": 2, "rollout__edits": 2, "rollout__steps": 3}


@pytest.fixture
def start(tiny, base):
    """``start(out, epochs=...)``: a trainer whose checkpoints are whole adapters."""

    def build(out, resume=False, pipeline=None, **changes):
        pipeline = pipeline or base()
        digest = weights_digest(pipeline)

        def write(folder):
            save_adapter(
                folder,
                pipeline,
                base="base",
                base_digest=digest,
                settings=EditorSettings(resolution=16),
                references=LatentReferences(trainer._data.style_latents),
                card="",
            )

        changes = {"optimizer__learning_rate": 1e-4, **SMALL, **changes}
        trainer = tiny.trainer(pipeline, tiny.settings(**changes), out=out, write=write)
        if resume:
            trainer.resume()
        return trainer

    return build


def tensors_of(folder):
    """The bytes of all weights of a checkpoint."""
    files = sorted(folder.rglob("*.safetensors"))
    assert {file.name for file in files} == {
        "adapter_model.safetensors", "state.safetensors", "references.safetensors",
        "conv_in.safetensors", "diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_epochs_and_two_more_are_four(start, tmp_path, objective):
    one, two = tmp_path / "one", tmp_path / "two"
    start(one, objective=objective, epochs=4).run()
    start(two, objective=objective, epochs=2).run()
    torch.randn(7)  # the global generator is in another state
    resumed = start(two, resume=True, objective=objective, epochs=4)
    assert resumed.position.epoch == 2 and len(resumed.position.history) == 2
    resumed.run()
    expected, found = epochs_folder(one).checkpoints()[-1], epochs_folder(two).checkpoints()[-1]
    assert found.name == "epoch_00004"
    assert tensors_of(found) == tensors_of(expected)
    losses = [[row["loss"] for row in json.loads((folder / "history.json").read_text())]
              for folder in (expected, found)]  # fmt: skip
    assert losses[0] == losses[1] and len(set(losses[0])) == 4
    state = load_file(found / "state.safetensors")
    assert any(name.startswith("exp_avg_sq.") and tensor.any() for name, tensor in state.items())


def test_a_skipped_epoch_survives_resuming(start, tiny, tmp_path):
    everything = [str(i) for i in range(6)]

    def run(out, epochs, resume):
        trainer = start(out, resume=resume, epochs=epochs, optimizer__max_skipped=3)
        trainer._feedback = tiny.ColourFeedback(everything)
        trainer.run()

    run(tmp_path, 2, False)
    with pytest.raises(TrainingError, match="3 epochs in a row"):
        run(tmp_path, 4, True)
    assert epochs_folder(tmp_path).checkpoints()[-1].name == "epoch_00003"


def test_the_two_newest_are_kept(start, tmp_path):
    start(tmp_path, epochs=4).run()
    assert [folder.name for folder in epochs_folder(tmp_path).checkpoints()] == [
        "epoch_00003",
        "epoch_00004",
    ]
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
        "epoch_00003", "epoch_00004",
    ]  # fmt: skip


def test_checkpoints_are_as_rare_as_asked_and_come_at_the_end(start, tmp_path):
    start(tmp_path, epochs=3, checkpoint_every=2).run()
    assert [folder.name for folder in epochs_folder(tmp_path).checkpoints()] == [
        "epoch_00002",
        "epoch_00003",
    ]


def test_what_a_kill_leaves_is_no_checkpoint(start, tmp_path):
    uninterrupted = tmp_path / "whole"
    start(uninterrupted, epochs=3).run()
    out = tmp_path / "killed"
    start(out, epochs=2).run()
    newest = epochs_folder(out).checkpoints()[-1]
    # killed before the rename, and a folder that lost its marker
    shutil.copytree(newest, out / FOLDER / "epoch_00003.partial")
    (out / FOLDER / "epoch_00003.partial" / "state.safetensors").write_bytes(b"half")
    shutil.copytree(newest, out / FOLDER / "epoch_00004")
    (out / FOLDER / "epoch_00004" / MARKER).unlink()
    assert epochs_folder(out).checkpoints()[-1] == newest
    resumed = start(out, resume=True, epochs=3)
    assert resumed.position.epoch == 2
    resumed.run()
    found = epochs_folder(out).checkpoints()[-1]
    assert found.name == "epoch_00003"
    assert tensors_of(found) == tensors_of(epochs_folder(uninterrupted).checkpoints()[-1])
    assert not (out / FOLDER / "epoch_00003.partial").exists()


def test_an_error_while_writing_leaves_the_one_before(start, tmp_path):
    trainer = start(tmp_path, epochs=2)
    write = trainer._write_adapter

    def fail(folder):
        write(folder)
        if trainer.position.epoch == 2:
            raise OSError("disk full")

    trainer._write_adapter = fail
    with pytest.raises(TrainingError, match="disk full"):
        trainer.run()
    assert [folder.name for folder in epochs_folder(tmp_path).checkpoints()] == ["epoch_00001"]
    assert start(tmp_path, resume=True, epochs=2).position.epoch == 1


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "cut short": (lambda folder: cut(folder / "state.safetensors"), "broken"),
    "no state": (lambda folder: (folder / "state.safetensors").unlink(), "broken"),
    "half a history": (lambda folder: (folder / "history.json").write_text("[{"), "broken"),
    "a number": (lambda folder: (folder / "history.json").write_text("3"), "broken"),
    "a list": (lambda folder: (folder / MARKER).write_text("[]"), "broken"),
    "no settings": (lambda folder: (folder / MARKER).write_text('{"epoch": 1}'), "broken"),
    "no moments": (lambda folder: drop(folder / "state.safetensors", "exp_avg_sq."), "broken"),
    "no weights": (lambda folder: drop(folder / "state.safetensors", "parameter."), "another"),
}


def test_a_damaged_checkpoint_is_named(start, tmp_path):
    trainer = start(tmp_path / "run", epochs=1)
    trainer.run()
    for name, (damage, reason) in DAMAGES.items():
        folder = tmp_path / name / FOLDER / "epoch_00001"
        shutil.copytree(epochs_folder(tmp_path / "run").checkpoints()[-1], folder)
        damage(folder)
        before = {key: p.detach().clone() for key, p in trainer.policy.parameters().items()}
        with pytest.raises(TrainingError, match=rf"{name}.*epoch_00001.*{reason}"):
            load_training_state(
                folder, trainer.policy.parameters(), trainer._optimizer, trainer.config
            )
        after = trainer.policy.parameters()
        assert all(torch.equal(after[key], before[key]) for key in before)


def test_resuming_from_a_damaged_checkpoint_names_its_folder(start, tmp_path):
    start(tmp_path, epochs=1).run()
    cut(epochs_folder(tmp_path).checkpoints()[-1] / "state.safetensors")
    with pytest.raises(TrainingError, match=r"epoch_00001 is broken.*Delete it"):
        start(tmp_path, resume=True, epochs=2)


def drop(file, prefix):
    """Leave one tensor out."""
    from safetensors.torch import save_file

    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if not k.startswith(prefix)}, file)


def test_other_settings_are_refused_by_name(start, tmp_path):
    start(tmp_path, epochs=1).run()
    with pytest.raises(ConfigError, match=r"other settings: seed was 0, is 3.*Resume with those"):
        start(tmp_path, resume=True, epochs=2, seed=3)
    with pytest.raises(ConfigError, match="rollout was"):
        start(tmp_path, resume=True, epochs=2, rollout__inputs=4)
    start(tmp_path, resume=True, epochs=7, checkpoint_every=2)


def test_an_adapter_of_another_rank_is_refused(start, tiny, base, tmp_path):
    start(tmp_path, epochs=1).run()
    marker = epochs_folder(tmp_path).checkpoints()[-1] / MARKER
    content = json.loads(marker.read_text())
    content["settings"]["adapter"]["rank"] = 3
    marker.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="another adapter"):
        start(tmp_path, resume=True, epochs=2, adapter__rank=3)


def test_resuming_nothing_starts_at_the_beginning(start, tmp_path):
    assert start(tmp_path, resume=True).position.epoch == 0


def test_the_adapter_of_a_checkpoint_is_the_policy(start, base, tmp_path):
    trainer = start(tmp_path, epochs=2)
    trainer.run()
    adapter = epochs_folder(tmp_path).checkpoints()[-1] / "adapter"
    folder = tmp_path / "base"
    base().save_pretrained(folder)
    loaded = load_editor(str(adapter), base=str(folder)).pipeline
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    outputs = []
    for pipeline in (loaded, trainer.policy.pipeline):
        with torch.no_grad():
            known = pipeline.condition(latents, latents + 1, ["a lab"])
            inputs = torch.cat([latents, known.image_latents, known.prompt], dim=1)
            outputs.append(
                pipeline.unet(inputs, torch.tensor(500), encoder_hidden_states=known.text).sample
            )
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_an_adapter_for_another_base_is_refused(start, base, tmp_path):
    start(tmp_path, epochs=1).run()
    other = base()
    with torch.no_grad():
        other.unet.conv_out.bias += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(EditorError, match="trained on a base with weights"):
        load_editor(
            str(epochs_folder(tmp_path).checkpoints()[-1] / "adapter"), base=str(tmp_path / "other")
        )


def test_a_full_disk_is_reported_and_the_checkpoint_before_is_kept(start, tmp_path, monkeypatch):
    start(tmp_path, epochs=1).run()

    def full(*_):
        raise OSError(28, "No space left on device")

    trainer = start(tmp_path, resume=True, epochs=2)
    with monkeypatch.context() as broken:
        broken.setattr("spie_robo.training.checkpoint.save_file", full)
        with pytest.raises(TrainingError, match=r"epoch_00002.*No space left.*--resume"):
            trainer.run()
    (kept,) = epochs_folder(tmp_path).checkpoints()
    assert kept.name == "epoch_00001" and not list((tmp_path / FOLDER).glob("*.partial"))
    assert start(tmp_path, resume=True, epochs=2).run().epoch == 2


def test_what_is_left_of_a_checkpoint_that_was_being_deleted_goes(start, tmp_path):
    remains = tmp_path / FOLDER / "epoch_00000" / "adapter"
    remains.mkdir(parents=True)
    start(tmp_path, epochs=1).run()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["epoch_00001"]
