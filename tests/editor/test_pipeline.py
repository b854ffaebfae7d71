from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch

from spie_robo.editor.conv_in import grow_conv_in, shrink_conv_in
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.latents import decode_target, encode_image, encode_target
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.errors import EditorError

TEXT = "a wood table"


def images(count=1, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize(("image_scale", "text_scale"), [(1.5, 7.5), (2.0, 1.25)])
def test_without_style_weights_equals_stock(tiny_stock, scheduler, image_scale, text_scale):
    image = images()
    stock = tiny_stock(scheduler)
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        TEXT,
        image=(image + 1) / 2,
        num_inference_steps=4,
        guidance_scale=text_scale,
        image_guidance_scale=image_scale,
        generator=torch.Generator().manual_seed(7),
        output_type="pt",
    ).images
    ours = SpiePipeline.from_instruct_pix2pix(tiny_stock(scheduler))
    edited = ours(
        image,
        [TEXT],
        seeded(7),
        style_latents=torch.randn(1, 4, 8, 8),
        guidance=Guidance(image=image_scale, style=3.0, text=text_scale),
        steps=4,
    )
    assert expected.std() > 0.01
    torch.testing.assert_close((edited + 1) / 2, expected, atol=2e-5, rtol=0)


def test_style_reaches_the_output_even_with_empty_text(tiny_pipeline):
    edits = [
        tiny_pipeline(
            images(), [""], seeded(0), encode_image(tiny_pipeline.vae, style), Guidance(), steps=2
        )
        for style in (images(seed=1), images(seed=2))
    ]
    assert (edits[0] - edits[1]).abs().max() > 1e-3


def test_every_style_weight_learns(tiny_stock):
    pipeline = SpiePipeline.from_instruct_pix2pix(tiny_stock())
    optimizer = torch.optim.SGD(
        [*pipeline.visual_prompt.parameters(), pipeline.unet.conv_in.weight], lr=0.1
    )
    before = {n: p.detach().clone() for n, p in pipeline.visual_prompt.named_parameters()}
    for _ in range(2):  # the first step moves conv_in, the second what lies behind it
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        known = pipeline.condition(latents, latents + 1, [TEXT])
        inputs = torch.cat([latents, known.image_latents, known.prompt], dim=1)
        output = pipeline.unet(inputs, torch.tensor(500), encoder_hidden_states=known.text).sample
        optimizer.zero_grad()
        output.square().mean().backward()
        optimizer.step()
    moved = {
        n for n, p in pipeline.visual_prompt.named_parameters() if not torch.equal(before[n], p)
    }
    # a bias of the keys would shift every attention logit alike; there is none
    assert moved == set(before)


def test_keys_and_values_come_from_the_first_cross_attention(tiny_stock):
    pipeline = SpiePipeline.from_instruct_pix2pix(tiny_stock())
    source = pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    assert torch.equal(pipeline.visual_prompt.attention.to_k.weight, source.to_k.weight)
    assert torch.equal(pipeline.visual_prompt.attention.to_v.weight, source.to_v.weight)


def test_first_cross_attention_of_another_width_is_left_alone(tiny_stock):
    pipeline = SpiePipeline.from_instruct_pix2pix(tiny_stock(attend_first=False))
    assert pipeline.visual_prompt.attention.to_k.weight.shape == (16, 16)


def test_grow_and_shrink_are_inverse(tiny_stock):
    stock = tiny_stock().unet
    grown = tiny_stock().unet
    style = torch.randn(16, 4, 3, 3)
    grow_conv_in(grown, style)
    small, extra = shrink_conv_in(grown)
    assert torch.equal(extra, style)
    assert small.config.in_channels == 8
    for name, tensor in stock.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name]), name
    with pytest.raises(EditorError, match="expected 8 input channels"):
        grow_conv_in(grown)


def test_save_and_load(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = SpiePipeline.from_pretrained(tmp_path)
    style = torch.randn(1, 4, 8, 8)
    first, second = (
        p(images(), [TEXT], seeded(3), style, steps=2) for p in (tiny_pipeline, loaded)
    )
    assert torch.equal(first, second)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]


def test_saved_folder_opens_as_stock(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    stock = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(stock).__name__ == "StableDiffusionInstructPix2PixPipeline"
    assert stock.unet.config.in_channels == 8


def test_stock_folder_opens_as_ours(tiny_stock, tmp_path):
    tiny_stock().save_pretrained(tmp_path)
    loaded = SpiePipeline.from_pretrained(tmp_path)
    assert loaded.unet.config.in_channels == 12
    assert not loaded.unet.conv_in.weight[:, 8:].any()


def residual_pipeline(tiny_stock, channels=16):
    stock = tiny_stock(channels=channels)
    grow_conv_in(stock.unet)
    from spie_robo.editor.visual_prompt import VisualPrompt

    return SpiePipeline(
        vae=stock.vae,
        text_encoder=stock.text_encoder,
        tokenizer=stock.tokenizer,
        unet=stock.unet,
        scheduler=diffusers.DDIMScheduler(
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            rescale_betas_zero_snr=True,
            clip_sample=False,
        ),
        visual_prompt=VisualPrompt.from_unet(stock.unet),
        residual_latents=True,
        residual_mean=np.linspace(-1, 1, channels),
        residual_std=np.linspace(0.5, 2, channels),
        image_latent_scale=0.3,
    )


def test_residual_v_prediction_half_precision_round_trip(tiny_stock, tmp_path):
    pipeline = residual_pipeline(tiny_stock)
    pipeline.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = SpiePipeline.from_pretrained(tmp_path)
    assert loaded.latent_spec == pipeline.latent_spec
    assert loaded.unet.dtype == loaded.vae.dtype == torch.float32
    assert loaded.text_encoder.dtype == loaded.visual_prompt.dtype == torch.float32
    edits = [p(images(), [TEXT], seeded(3), steps=3) for p in (pipeline, loaded)]
    torch.testing.assert_close(edits[0], edits[1], atol=0.05, rtol=0)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == "SpiePipeline"


def test_residual_targets_invert_and_are_standardised(tiny_stock):
    pipeline = residual_pipeline(tiny_stock)
    source, target = images(2, seed=1), images(2, seed=2)
    spec, vae = pipeline.latent_spec, pipeline.vae
    z = encode_image(vae, source)
    clean = encode_target(vae, target, z, spec)
    torch.testing.assert_close(
        decode_target(vae, clean, z, spec), vae.decode(encode_image(vae, target)).sample
    )
    expected = (encode_image(vae, target) - z)[:, 0] / 0.5 + 1 / 0.5
    torch.testing.assert_close(clean[:, 0], expected)


def test_broken_folders_are_named(tmp_path, tiny_pipeline):
    with pytest.raises(EditorError, match="nowhere"):
        SpiePipeline.from_pretrained(tmp_path / "nowhere")
    tiny_pipeline.save_pretrained(tmp_path / "p")
    weights = tmp_path / "p" / "spie" / "conv_in.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(EditorError, match="Cannot load a pipeline"):
        SpiePipeline.from_pretrained(tmp_path / "p")


def test_sizes_that_do_not_fit_are_refused(tiny_pipeline):
    with pytest.raises(EditorError, match="multiples of 8"):
        tiny_pipeline(images(size=36), [TEXT], seeded(0))
