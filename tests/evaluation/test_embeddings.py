from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spie_robo.errors import ConfigError
from spie_robo.evaluation.embeddings import (
    Clip,
    directional_similarity,
    input_similarity,
    style_similarity,
    text_similarity,
)
from spie_robo.feedback.judges.patches import load_patch_judge

A, B = "warm wood", "flat grey"


class Coordinates:
    """A patch judge whose features are the colours of four quarters, and that counts its looks."""

    def __init__(self) -> None:
        self.looks = 0

    def patches(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        self.looks += len(images)
        half = images[0].shape[0] // 2
        return [torch.from_numpy(image[::half, ::half].astype(np.float32)) for image in images]


def quarters(*colours: tuple[int, int, int]) -> np.ndarray:
    """A 32x32 image of four coloured quarters."""
    grid = np.array(colours, np.uint8).reshape(2, 2, 3)
    return grid.repeat(16, axis=0).repeat(16, axis=1)


X, Y, Z = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_style_compares_with_every_patch_of_the_reference() -> None:
    edit, reference = quarters(X, X, Y, Y), quarters(X, Z, Z, Z)
    # Of 16 pairs, the two edit patches X meet the one reference patch X.
    assert style_similarity(Coordinates(), [edit], [reference]) == pytest.approx([2 / 16])


def test_input_compares_patches_at_the_same_place() -> None:
    edit, raw = quarters(X, X, Y, Y), quarters(X, Y, X, Y)
    assert input_similarity(Coordinates(), [edit], [raw]) == pytest.approx([2 / 4])
    assert input_similarity(Coordinates(), [edit], [edit]) == pytest.approx([1.0])


def test_a_photo_of_many_frames_is_looked_at_once() -> None:
    judge, reference = Coordinates(), quarters(X, Y, Z, X)
    edits = [quarters(X, X, X, X), quarters(Y, Y, Y, Y)]
    style_similarity(judge, edits, [reference, reference])
    assert judge.looks == 3


def test_clip_from_a_folder(tiny_clip: Path, frames: Callable, lab: Callable) -> None:
    clip = Clip(str(tiny_clip))
    images = [frame.rgb for frame in frames(3)]
    vectors, texts = clip.images(images), clip.texts([A, B])
    assert vectors.shape == (3, 8) and texts.shape == (2, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    expected = (vectors @ texts[0]).numpy()
    np.testing.assert_allclose(text_similarity(clip, images, A), expected, atol=1e-6)
    assert [grid.shape for grid in clip.patches(lab(2))] == [(4, 4, 16)] * 2


def test_clip_agrees_with_transformers(tiny_clip: Path, frames: Callable) -> None:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = (c.from_pretrained(tiny_clip) for c in (CLIPModel, CLIPProcessor))
    image = frames(1)[0].rgb
    inputs = processor(text=[A], images=[image], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs).logits_per_image[0, 0] / model.logit_scale.exp()
    found = text_similarity(Clip(str(tiny_clip)), [image], A)[0]
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_direction(tiny_clip: Path, frames: Callable, lab: Callable) -> None:
    clip = Clip(str(tiny_clip))
    raw, other = [frames(1)[0].rgb], [lab(1)[0]]
    there = directional_similarity(clip, other, raw, A, B)
    back = directional_similarity(clip, raw, other, A, B)
    assert -1 <= there[0] <= 1 and there[0] == pytest.approx(-back[0])
    assert np.isnan(directional_similarity(clip, raw, raw, A, B)[0])


def test_long_texts_are_cut(tiny_clip: Path) -> None:
    assert torch.isfinite(Clip(str(tiny_clip)).texts(["wood " * 100])).all()


def test_dino_from_a_folder(tiny_dino: Path, frames: Callable, lab: Callable) -> None:
    judge = load_patch_judge(str(tiny_dino))
    images = [frame.rgb for frame in frames(2)]
    assert input_similarity(judge, images, images) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (np.abs(style_similarity(judge, images, lab(2))) <= 1).all()


def test_models_that_are_none(tiny_clip: Path, tiny_dino: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Clip("nowhere")
    with pytest.raises(ConfigError, match="expected a model of type clip"):
        Clip(str(tiny_dino))
    for file in tiny_clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 tensors.*visual_projection"):
        Clip(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "clip"
