"""Tiny models with random weights, of the exact published classes, saved as the Hub has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cube", "red", "the", "table"]


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _save_depth(folder: Path, estimates: str = "relative", max_depth: int = 1) -> Path:
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessorPil,
    )

    backbone = Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=8,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=4,
        head_hidden_size=4,
        initializer_range=1.0,
        depth_estimation_type=estimates,
        max_depth=max_depth,
    )
    with _seeded():
        model = DepthAnythingForDepthEstimation(config)
        torch.nn.init.uniform_(model.head.conv3.weight)  # so that the ReLU does not cut all
        torch.nn.init.constant_(model.head.conv3.bias, 0.5)
    model.save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14, **IMAGENET
    ).save_pretrained(folder)
    return folder


def _save_dinov2(folder: Path, registers: int = 0) -> Path:
    from transformers import (
        BitImageProcessorPil,
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {"image_size": 56, "patch_size": 14, **sizes}
    with _seeded():
        if registers:
            config = Dinov2WithRegistersConfig(num_register_tokens=registers, **shape)
            Dinov2WithRegistersModel(config).save_pretrained(folder)
        else:
            Dinov2Model(Dinov2Config(**shape)).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **IMAGENET
    ).save_pretrained(folder)
    return folder


def _save_grounding_dino(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=5,
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        encoder_n_points=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        decoder_n_points=2,
        max_text_len=32,
    )
    with _seeded():
        GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 256})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def _save_sam(folder: Path) -> Path:
    from transformers import (
        SamConfig,
        SamImageProcessorPil,
        SamMaskDecoderConfig,
        SamModel,
        SamProcessor,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=8,
        output_channels=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        mlp_dim=8,
        window_size=2,
        global_attn_indexes=[0],
        num_pos_feats=4,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=8, image_size=64, patch_size=16, mask_input_channels=4
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=8,
        mlp_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=8,
    )
    with _seeded():
        SamModel(
            SamConfig(
                vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
            )
        ).save_pretrained(folder)
    SamProcessor(
        SamImageProcessorPil(
            size={"longest_edge": 64},
            pad_size={"height": 64, "width": 64},
            mask_size={"longest_edge": 16},
            mask_pad_size={"height": 16, "width": 16},
        )
    ).save_pretrained(folder)
    return folder


def _save_sam2(folder: Path) -> Path:
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        patch_kernel_size=[7, 7],
        patch_stride=[4, 4],
        query_stride=[2, 2],
        window_positional_embedding_background_size=[2, 2],
        num_query_pool_stages=3,
        blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[2, 2, 2, 2],
        global_attention_blocks=[],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=8,
    )
    prompts = Sam2PromptEncoderConfig(
        hidden_size=8, image_size=64, patch_size=16, mask_input_channels=4
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=8,
        mlp_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=8,
    )
    with _seeded():
        Sam2Model(
            Sam2Config(
                vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
            )
        ).save_pretrained(folder)
    return folder


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Path]:
    """``save_model(kind, **options)`` writes a tiny model and returns its folder."""
    makers: dict[str, Callable[..., Path]] = {
        "depth_anything": _save_depth,
        "dinov2": _save_dinov2,
        "grounding_dino": _save_grounding_dino,
        "sam": _save_sam,
        "sam2": _save_sam2,
    }

    def save(kind: str, **options: object) -> Path:
        folder = tmp_path / f"{kind}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return makers[kind](folder, **options)

    return save
