from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file, save_file

from spie_robo.editor import presets
from spie_robo.editor.adapter import load_adapter, merge_adapter, save_adapter
from spie_robo.editor.digest import weights_digest
from spie_robo.editor.editor import Editor
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import LatentReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, EditorError, FrameError
from spie_robo.types import Frame, Geometry, ImageEditor

SETTINGS = EditorSettings(
    instruction="a wood table", steps=2, guidance=Guidance(1, 1, 1), resolution=32, eta=1.0
)


def noise(height=32, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frames(count, height=32, width=32):
    return [Frame(noise(height, width, 100 + i)) for i in range(count)]


@pytest.fixture
def editor(tiny_pipeline):
    return Editor(tiny_pipeline, "tiny", SETTINGS)


def test_it_is_an_image_editor(editor):
    assert isinstance(editor, ImageEditor)
    result = editor.edit(frames(1), [noise()], seeds=[5])[0]
    assert result.rgb.shape == (32, 32, 3) and result.rgb.dtype == np.uint8
    assert (result.seed, result.instruction, result.steps) == (5, "a wood table", 2)
    assert result.editor_id == editor.id == f"tiny@{weights_digest(editor.pipeline)[:8]}"


def test_an_edit_does_not_depend_on_its_neighbours(editor):
    batch = [*frames(3), *frames(1, 48, 64)]
    photos, seeds = [noise(seed=1), noise(seed=2)], [3, 1, 4, 1]
    together = editor.edit(batch, photos, seeds=seeds)
    alone = [editor.edit([f], photos, seeds=[s])[0] for f, s in zip(batch, seeds, strict=True)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)


def test_larger_batches_change_at_most_the_rounding(tiny_pipeline, editor):
    batched = Editor(tiny_pipeline, "tiny", replace(SETTINGS, batch_size=4))
    for one, other in zip(
        editor.edit(frames(3), seeds=[1, 2, 3]),
        batched.edit(frames(3), seeds=[1, 2, 3]),
        strict=True,
    ):
        assert np.abs(one.rgb.astype(int) - other.rgb).max() <= 1


@pytest.mark.parametrize("other", ["seed", "reference", "instruction", "frame"])
def test_everything_that_should_matter_does(editor, other):
    first = editor.edit(frames(1), [noise(seed=1)], "a wood table", [0])[0].rgb
    again = editor.edit(frames(1), [noise(seed=1)], "a wood table", [0])[0].rgb
    changed = editor.edit(
        frames(2)[1:] if other == "frame" else frames(1),
        [noise(seed=2 if other == "reference" else 1)],
        "dark" if other == "instruction" else "a wood table",
        [1 if other == "seed" else 0],
    )[0].rgb
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, changed)


def test_reference_folders_are_encoded_once_until_they_change(editor, tmp_path, monkeypatch):
    from spie_robo.editor import references

    encoded = []
    encode = references.encode_image
    monkeypatch.setattr(
        references, "encode_image", lambda vae, x: encoded.append(1) or encode(vae, x)
    )
    Image.fromarray(noise(64, 64, seed=1)).save(tmp_path / "a.png")
    first = editor.edit(frames(1), tmp_path)[0].rgb
    assert np.array_equal(editor.edit(frames(1), tmp_path)[0].rgb, first)
    assert len(encoded) == 1
    Image.fromarray(noise(80, 80, seed=2)).save(tmp_path / "a.png")
    assert not np.array_equal(editor.edit(frames(1), tmp_path)[0].rgb, first)


def test_instructions_are_encoded_once(editor, monkeypatch):
    encoded = []
    encode = editor.pipeline.encode_text

    def counting(texts):
        encoded.extend(texts)
        return encode(texts)

    monkeypatch.setattr(editor.pipeline, "encode_text", counting)
    first = editor.edit(frames(2), instruction="dark")[0].rgb
    assert encoded == ["dark", ""]
    for number in range(10):  # more than are remembered
        editor.edit(frames(1), instruction=f"light {number}")
    assert encoded.count("") < 4
    assert np.array_equal(editor.edit(frames(2), instruction="dark")[0].rgb, first)


def test_protect(tiny_pipeline):
    rgb, segmentation = noise(), np.zeros((32, 32), np.int32)
    rgb[8:24, 8:24], segmentation[8:24, 8:24] = (210, 20, 20), 7
    frame = Frame(rgb, geometry=Geometry(segmentation=segmentation, names={7: "cube"}))
    free = Editor(tiny_pipeline, "tiny", SETTINGS)
    held = Editor(tiny_pipeline, "tiny", SETTINGS, protect=["cube"])
    inside = held.edit([frame])[0].rgb[12:20, 12:20].astype(int)
    outside = held.edit([frame])[0].rgb
    assert (inside[..., 0] > inside[..., 1] + 20).all()
    assert np.array_equal(outside[:3], free.edit([frame])[0].rgb[:3])
    with pytest.raises(FrameError, match="protect"):
        held.edit(frames(1))


def test_wrong_number_of_seeds(editor):
    with pytest.raises(ConfigError, match="one a frame"):
        editor.edit(frames(2), seeds=[1])


def test_broken_weights_do_not_become_pictures(editor):
    editor.pipeline.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(EditorError, match="NaN"):
        editor.edit(frames(1))


def test_sampler_is_converted(tiny_stock):
    pipeline = SpiePipeline.from_instruct_pix2pix(tiny_stock("PNDMScheduler"))
    editor = Editor(pipeline, "tiny", replace(SETTINGS, sampler="ddim"))
    assert editor.edit(frames(1))[0].rgb.std() > 0
    assert not editor.pipeline.scheduler.config.clip_sample


def saved(pipeline, folder):
    pipeline.save_pretrained(folder)
    SETTINGS.save(folder)
    LatentReferences(torch.randn(2, 4, 8, 8)).save(folder)
    return folder


def test_from_pretrained_folder(tiny_pipeline, tmp_path):
    folder = saved(tiny_pipeline, tmp_path / "model")
    assert Editor.from_pretrained(folder, device="cpu", batch_size=2).settings.batch_size == 2
    editor = Editor.from_pretrained(folder, device="cpu", steps=3)
    assert editor.settings == replace(SETTINGS, steps=3)
    assert len(editor.references.stored) == 2
    first = editor.edit(frames(1, 48, 64))[0].rgb
    again = Editor.from_pretrained(editor.id, device="cpu", steps=3)
    np.testing.assert_array_equal(again.edit(frames(1, 48, 64))[0].rgb, first)
    assert copy.deepcopy(editor) is editor
    with pytest.raises(EditorError, match="expected weights 00000000"):
        Editor.from_pretrained(f"{folder}@00000000", device="cpu")


def test_embedded_preset(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "embedded", tmp_path)
    with pytest.raises(EditorError, match="missing from this installation"):
        Editor.from_pretrained("embedded")
    saved(tiny_pipeline, tmp_path)
    assert Editor.from_pretrained("embedded", device="cpu").id.startswith("embedded@")


def test_a_preset_without_its_photos_is_reported(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "embedded-labs", saved(tiny_pipeline, tmp_path / "editor"))
    monkeypatch.setitem(presets.LOOKS, "embedded-labs", tmp_path / "nothing")
    with pytest.raises(EditorError, match="photos of 'embedded-labs' are missing"):
        Editor.from_pretrained("embedded-labs")


def test_unknown_editors_are_answered_with_what_is_known(tmp_path, monkeypatch):
    with pytest.raises(EditorError, match="Did you mean 'embedded'"):
        Editor.from_pretrained("embeded")
    with pytest.raises(EditorError, match="is not an editor"):
        Editor.from_pretrained(tmp_path)

    def offline(*args, **kwargs):
        raise presets.LocalEntryNotFoundError("no network here")

    monkeypatch.setattr(presets, "snapshot_download", offline)
    with pytest.raises(EditorError, match="no network here"):
        Editor.from_pretrained("someone/something")


@pytest.mark.parametrize(
    "content", ["{", '{"stepz": 3}', '{"steps": 0}', '{"guidance": {"text": -1}}', "[]"]
)
def test_broken_settings_are_named(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"expected|settings"):
        EditorSettings.load(tmp_path)


@pytest.fixture
def adapter(tiny_pipeline, tmp_path):
    """An adapter folder beside its base, and the pipeline that it was saved from."""
    base = saved(tiny_pipeline, tmp_path / "base")
    digest = weights_digest(tiny_pipeline)
    tiny_pipeline.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )
    tiny_pipeline.unet.conv_in.weight.data[:, 8:] += 0.5
    tiny_pipeline.visual_prompt.proj_out.bias.data += 1
    folder = tmp_path / "adapter"
    save_adapter(
        folder,
        tiny_pipeline,
        base=str(base),
        base_digest=digest,
        settings=replace(SETTINGS, instruction="dark"),
        references=None,
        card="# An adapter",
    )
    return folder, base, tiny_pipeline


def test_adapter_round_trip(adapter):
    folder, base, trained = adapter
    loaded = Editor.from_pretrained(folder, base=str(base), device="cpu")
    assert loaded.settings.instruction == "dark"
    assert len(loaded.references.stored) == 2, "the base's references, as it has none of its own"
    expected = Editor(trained, "x", loaded.settings, loaded.references).edit(frames(1))[0].rgb
    found = loaded.edit(frames(1))[0].rgb
    assert np.abs(found.astype(int) - expected).max() <= 1
    unchanged = Editor.from_pretrained(base, device="cpu", settings=loaded.settings)
    assert np.abs(unchanged.edit(frames(1))[0].rgb.astype(int) - expected).max() > 1


def test_an_adapter_has_one_id_whatever_the_processor_rounds(adapter, monkeypatch):
    folder, base, _ = adapter
    plain = Editor.from_pretrained(folder, base=str(base), device="cpu")

    def merge_with_other_rounding(pipeline):
        merge_adapter(pipeline)
        for weight in pipeline.unet.parameters():
            weight.data *= 1 + 1e-6

    monkeypatch.setattr(presets, "merge_adapter", merge_with_other_rounding)
    other = Editor.from_pretrained(plain.id, base=str(base), device="cpu")
    assert other.id == plain.id
    assert weights_digest(other.pipeline) != weights_digest(plain.pipeline)


@pytest.mark.parametrize("change", ["lora_alpha", "lora", "style", "dtype"])
def test_another_adapter_has_another_id(adapter, change):
    folder, base, _ = adapter
    before = Editor.from_pretrained(folder, base=str(base), device="cpu").id
    dtype = torch.float32
    if change == "dtype":
        dtype = torch.bfloat16
    elif change == "lora_alpha":
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "lora_alpha": config["lora_alpha"] * 2}))
    else:
        path = (
            folder
            / {
                "lora": "adapter_model.safetensors",
                "style": "spie/conv_in.safetensors",
            }[change]
        )
        tensors = load_file(path)
        tensors[min(tensors)] += 1e-3
        save_file(tensors, path, metadata={"format": "pt"})
    assert Editor.from_pretrained(folder, base=str(base), device="cpu", dtype=dtype).id != before


def test_an_adapter_opens_with_peft(adapter):
    from peft import PeftModel

    folder, base, trained = adapter
    model = PeftModel.from_pretrained(SpiePipeline.from_pretrained(base).unet, folder)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.default.weight"
    assert torch.equal(model.base_model.model.get_parameter(name), trained.unet.get_parameter(name))


def test_a_base_outside_the_folder_is_refused(adapter):
    folder, base, _ = adapter
    for escape in (str(base), "../base"):
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "base_model_name_or_path": escape}))
        with pytest.raises(EditorError, match="outside the folder"):
            Editor.from_pretrained(folder, device="cpu")


def test_a_base_inside_the_folder_is_used(adapter):
    folder, base, _ = adapter
    base.rename(folder / "base")
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "base"}))
    assert Editor.from_pretrained(folder, device="cpu").edit(frames(1))


def test_another_base_is_refused(adapter, tiny_stock):
    folder, _, _ = adapter
    with pytest.raises(EditorError, match="trained on a base"):
        load_adapter(folder, SpiePipeline.from_instruct_pix2pix(tiny_stock()))


def test_broken_adapters_are_named(adapter):
    folder, base, _ = adapter
    (folder / "adapter_model.safetensors").write_bytes(b"junk")
    with pytest.raises(EditorError, match="missing or broken"):
        Editor.from_pretrained(folder, base=str(base), device="cpu")
