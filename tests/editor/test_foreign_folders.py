"""Folders that other people's code wrote: schedulers, variants, pickles and LoRAs."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from spie_robo.editor import Editor
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, EditorError
from spie_robo.types import Frame

SETTINGS = EditorSettings(steps=3, resolution=32)
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def frame():
    return Frame(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def edit_of(folder, **options):
    editor = Editor.from_pretrained(folder, settings=SETTINGS, **options)
    return editor.edit([frame()])[0].rgb


@pytest.mark.parametrize(
    "scheduler",
    ["PNDMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"],
)
def test_a_folder_with_another_scheduler_edits_and_is_saved_with_ours(
    tiny_stock, tmp_path, scheduler
):
    stock = tiny_stock()
    stock.scheduler = getattr(diffusers, scheduler).from_config(stock.scheduler.config)
    stock.save_pretrained(tmp_path / "stock")
    assert edit_of(tmp_path / "stock").shape == (32, 32, 3)
    pipeline = SpiePipeline.from_pretrained(tmp_path / "stock")
    assert isinstance(pipeline.scheduler, diffusers.DDIMScheduler)
    assert not pipeline.scheduler.config.clip_sample
    pipeline.save_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(edit_of(tmp_path / "ours"), edit_of(tmp_path / "stock"))


def test_a_scheduler_of_another_process_is_refused_when_the_folder_is_opened(tiny_stock, tmp_path):
    stock = tiny_stock()
    stock.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    stock.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="FlowMatchEulerDiscreteScheduler"):
        Editor.from_pretrained(tmp_path)


def test_as_many_steps_as_noise_levels_run_with_the_offset_of_published_folders(
    tiny_stock, tmp_path
):
    stock = tiny_stock()
    stock.scheduler = diffusers.DDIMScheduler.from_config(
        stock.scheduler.config, num_train_timesteps=8, steps_offset=1
    )
    stock.save_pretrained(tmp_path)
    editor = Editor.from_pretrained(tmp_path, settings=replace(SETTINGS, steps=8))
    assert editor.edit([frame()])[0].rgb.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("options", "found", "way_out"),
    [
        ({"variant": "fp16"}, "only a half-precision variant", "variant='fp16'"),
        ({"safe_serialization": False}, "only pickled weights", "that you trust"),
    ],
)
def test_weights_that_are_not_loaded_are_named_with_the_way_out(
    tiny_stock, tmp_path, options, found, way_out
):
    tiny_stock().save_pretrained(tmp_path, **options)
    with pytest.raises(EditorError, match=found) as caught:
        Editor.from_pretrained(tmp_path)
    assert way_out in str(caught.value)


@pytest.fixture
def base(tiny_stock, tmp_path):
    folder = tmp_path / "base"
    tiny_stock().save_pretrained(folder)
    return folder


@pytest.fixture
def lora(base):
    """A UNet of the base with a random LoRA, and what the base computes with it."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(base / "unet")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, init_lora_weights=False)
        unet.add_adapter(config)
    merged = diffusers.UNet2DConditionModel.from_pretrained(base / "unet")
    merged.load_state_dict(_merged(unet, config, merged.state_dict()))
    stock = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(base, unet=merged)
    stock.save_pretrained(base.parent / "merged")
    return unet, config, base.parent / "merged"


def _merged(unet, config, plain):
    """Weights with the LoRA added by its definition: W + (alpha / r) B A."""
    state, merged = unet.state_dict(), dict(plain)
    for key in plain:
        stem = key.removesuffix(".weight")
        down, up = f"{stem}.lora_A.default.weight", f"{stem}.lora_B.default.weight"
        if down in state:
            merged[key] = plain[key] + config.lora_alpha / config.r * state[up] @ state[down]
    return merged


def write_diffusers(unet, config, folder):
    layers = get_peft_model_state_dict(unet, adapter_name="default", save_embedding_layers=False)
    diffusers.StableDiffusionInstructPix2PixPipeline.save_lora_weights(
        folder, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict()
    )


def write_peft(unet, config, folder):
    layers = get_peft_model_state_dict(unet, adapter_name="default", save_embedding_layers=False)
    folder.mkdir()
    config.base_model_name_or_path = "somebody/instruct-pix2pix"
    config.save_pretrained(folder)
    save_file(
        {f"base_model.model.{key}": value.contiguous() for key, value in layers.items()},
        folder / "adapter_model.safetensors",
    )


@pytest.mark.parametrize("write", [write_diffusers, write_peft])
def test_a_lora_from_elsewhere_edits_as_its_merged_weights_do(lora, base, tmp_path, write):
    unet, config, merged = lora
    write(unet, config, tmp_path / "lora")
    edited = edit_of(tmp_path / "lora", base=str(base))
    expected, without = edit_of(merged), edit_of(base)
    assert np.abs(edited.astype(int) - expected).max() <= 1
    assert np.abs(edited.astype(int) - without).mean() > 1


@pytest.mark.parametrize("write", [write_diffusers, write_peft])
def test_a_lora_from_elsewhere_needs_a_base_and_has_an_id_of_its_own(lora, base, tmp_path, write):
    unet, config, _ = lora
    write(unet, config, tmp_path / "lora")
    with pytest.raises(EditorError, match="base=") as caught:
        Editor.from_pretrained(tmp_path / "lora")
    assert ("somebody/instruct-pix2pix" in str(caught.value)) == (write is write_peft)
    one = Editor.from_pretrained(tmp_path / "lora", base=str(base))
    again = Editor.from_pretrained(tmp_path / "lora", base=str(base))
    assert one.id == again.id
    assert one.weights_hash != Editor.from_pretrained(base).weights_hash


def test_a_lora_of_pefts_own_model_class_is_read(base, tmp_path):
    unet = diffusers.UNet2DConditionModel.from_pretrained(base / "unet")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False)
        get_peft_model(unet, config).save_pretrained(tmp_path / "lora")
    edited = edit_of(tmp_path / "lora", base=str(base))
    assert np.abs(edited.astype(int) - edit_of(base)).mean() > 1


def test_a_lora_that_changes_the_text_encoder_too_is_refused_and_not_half_used(
    lora, base, tmp_path
):
    unet, *_ = lora
    layers = get_peft_model_state_dict(unet, adapter_name="default", save_embedding_layers=False)
    text = {"text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 16)}
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path / "lora", unet_lora_layers=layers, text_encoder_lora_layers=text
    )
    with pytest.raises(EditorError, match="text_encoder too"):
        Editor.from_pretrained(tmp_path / "lora", base=str(base))


def test_a_lora_of_another_unet_is_named(base, tmp_path):
    (tmp_path / "lora").mkdir()
    LoraConfig(r=2, target_modules=TARGETS).save_pretrained(tmp_path / "lora")
    key = "base_model.model.mid_block.elsewhere.to_q.lora_A.weight"
    save_file({key: torch.zeros(2, 16)}, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(EditorError, match="does not fit the UNet"):
        Editor.from_pretrained(tmp_path / "lora", base=str(base))
