"""Tiny models on disk, and tiny scenes: a grey simulator and a lab of warm wood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from spie_robo.types import Frame, Geometry

SIDE = 64


def render(seed: int) -> np.ndarray:
    """A flat grey scene with a red cube somewhere, (64, 64, 3)."""
    x, y = np.random.default_rng(seed).integers(10, 40, 2)
    image = np.full((SIDE, SIDE, 3), 150, np.uint8)
    image[y : y + 14, x : x + 14] = (200, 40, 40)
    return image


def photo(seed: int) -> np.ndarray:
    """Brown stripes with noise, (72, 96, 3)."""
    generator = np.random.default_rng(seed)
    stripes = np.repeat(generator.integers(60, 190, (1, 12)), 8, axis=1)
    image = stripes[..., None] * np.array([1.0, 0.75, 0.5]) + generator.normal(0, 8, (72, 96, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def frame(seed: int, depth: bool = True) -> Frame:
    """A frame of :func:`render`, its cube (id 1) nearer than its table (id 0)."""
    image = render(seed)
    cube = (image[..., 0] == 200).astype(np.int32)
    ramp = np.linspace(1.4, 0.8, SIDE, dtype=np.float32)[:, None].repeat(SIDE, axis=1)
    true_depth = np.where(cube == 1, ramp - 0.05, ramp).astype(np.float32)
    geometry = Geometry(true_depth if depth else None, cube, {0: "table", 1: "red cube"})
    return Frame(image, "front", geometry)


@pytest.fixture(scope="session")
def lab() -> Callable[..., list[np.ndarray]]:
    """``lab(count, first)``: photos of one lab."""
    return lambda count, first=0: [photo(first + i) for i in range(count)]


@pytest.fixture(scope="session")
def frames() -> Callable[..., list[Frame]]:
    """``frames(count, depth)``: simulator frames with segmentation, and depth if asked for."""
    return lambda count, depth=True: [frame(i, depth) for i in range(count)]


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model with random weights and its processor; 32x32 images, patches of 8."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{c}</w>" for c in letters]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"vocab_size": len(tokens), "max_position_embeddings": 16, "num_hidden_layers": 2}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 2}
    config = CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config)
    folder = tmp_path_factory.mktemp("models") / "clip"
    size = {"shortest_edge": 32}
    images = CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 model with random weights and its processor."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Dinov2Model(config)
    folder = tmp_path_factory.mktemp("models") / "dino"
    model.save_pretrained(folder)
    BitImageProcessor().save_pretrained(folder)
    return folder


def write_photos(folder: Path, photos: list[np.ndarray]) -> Path:
    """Photos as PNG files, named in order."""
    folder.mkdir()
    for index, image in enumerate(photos):
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
    return folder


@pytest.fixture
def photo_folder(tmp_path: Path) -> Callable[[str, list[np.ndarray]], Path]:
    """``photo_folder(name, photos)`` writes them into a new folder."""
    return lambda name, photos: write_photos(tmp_path / name, photos)
