"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    from spie_robo.editor.pipeline import SpiePipeline

# Everywhere the same: equal bytes are promised on CPUs. benchmarks/gpu.py is for GPUs.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def _tiny_text() -> tuple[CLIPTokenizer, CLIPTextModel]:
    """A tokenizer of letters, and an encoder with weights from torch's generator."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{c}</w>" for c in letters]]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16
    )
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return tokenizer, CLIPTextModel(config).eval()


def _tiny_stock(
    scheduler: str, channels: int, attend_first: bool
) -> StableDiffusionInstructPix2PixPipeline:
    """Random weights (fixed seed) in stock classes; VAE factor 4, sizes are multiples of 8."""
    import diffusers
    import torch

    first = "CrossAttnDownBlock2D" if attend_first else "DownBlock2D"
    last = "CrossAttnUpBlock2D" if attend_first else "UpBlock2D"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer, text_encoder = _tiny_text()
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            norm_num_groups=4,
            latent_channels=channels,
            layers_per_block=1,
            mid_block_add_attention=False,
        ).eval()
        unet = diffusers.UNet2DConditionModel(
            in_channels=2 * channels,
            out_channels=channels,
            down_block_types=(first, "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", last),
            block_out_channels=(16, 32),
            norm_num_groups=4,
            attention_head_dim=2,
            layers_per_block=1,
            cross_attention_dim=16,
        ).eval()
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=getattr(diffusers, scheduler)(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            **({"clip_sample": False, "set_alpha_to_one": False} if "DDIM" in scheduler else {}),
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture
def tiny_stock() -> Callable[..., StableDiffusionInstructPix2PixPipeline]:
    """Builds a tiny stock InstructPix2Pix: ``tiny_stock(scheduler, channels, attend_first)``."""

    def build(
        scheduler: str = "DDIMScheduler", channels: int = 4, attend_first: bool = True
    ) -> StableDiffusionInstructPix2PixPipeline:
        return _tiny_stock(scheduler, channels, attend_first)

    return build


@pytest.fixture
def tiny_pipeline() -> SpiePipeline:
    """A tiny SpiePipeline with random weights, style channels too; DDIM; sizes multiples of 8."""
    import torch

    from spie_robo.editor.pipeline import SpiePipeline

    with torch.random.fork_rng():
        torch.manual_seed(1)
        pipeline = SpiePipeline.from_instruct_pix2pix(_tiny_stock("DDIMScheduler", 4, True))
        torch.nn.init.normal_(pipeline.unet.conv_in.weight[:, 8:], std=0.1)
    pipeline.visual_prompt.eval()
    return pipeline
