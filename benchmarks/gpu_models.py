"""InstructPix2Pix and its judges at full size, with random weights, saved to disk.

No model hub is needed: speed and memory depend on shapes alone, and the folders are read by the
code that reads the Hub's. What comes out of them is noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from transformers import (
    BitImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    DPTImageProcessorPil,
)

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SMALL_UNET: dict[str, Any] = {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 64}
SMALL_VAE: dict[str, Any] = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}


def save_instruct_pix2pix(folder: Path, small: bool) -> Path:
    """Stable Diffusion 1.5 with eight input channels, the shapes of ``timbrooks/instruct-pix2pix``.

    Args:
        folder: Receives a stock diffusers folder in float32, 4.3 GB.
        small: Narrow networks instead, to try the benchmark on a CPU.
    """
    if (folder / "model_index.json").exists():
        return folder
    torch.manual_seed(0)
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1} if small else {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    }  # fmt: skip
    StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            scaling_factor=0.18215,
            **(SMALL_VAE if small else {
                "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
            }),
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(
            vocab_size=49_408, num_attention_heads=12 if not small else 4, **text,
        )),
        tokenizer=_letters(),
        unet=UNet2DConditionModel(
            in_channels=8, attention_head_dim=8,
            **(SMALL_UNET if small else {"cross_attention_dim": 768}),
        ),
        scheduler=EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_depth_judge(folder: Path, small: bool) -> Path:
    """The shapes of ``depth-anything/Depth-Anything-V2-Small-hf``."""
    width = 48 if small else 384
    backbone = Dinov2Config(
        image_size=518, patch_size=14, hidden_size=width,
        num_attention_heads=6, out_indices=[3, 6, 9, 12],
        reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=width,
        neck_hidden_sizes=[48, 96, 192, 384], fusion_hidden_size=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = DepthAnythingForDepthEstimation(config)
    torch.nn.init.uniform_(model.head.conv3.weight)  # so that the ReLU at its end cuts little
    torch.nn.init.constant_(model.head.conv3.bias, 0.5)
    model.save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 518, "width": 518}, keep_aspect_ratio=True, ensure_multiple_of=14,
        **IMAGENET,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_patch_judge(folder: Path, small: bool) -> Path:
    """The shapes of ``facebook/dinov2-base``."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48 if small else 768, "num_attention_heads": 12}
    Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **sizes)).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **IMAGENET
    ).save_pretrained(folder)
    return folder


def _letters() -> CLIPTokenizer:
    """CLIP's tokenizer with an alphabet for its vocabulary: 77 tokens a text, as the real one."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{c}</w>" for c in letters]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
