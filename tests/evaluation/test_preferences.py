from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spie_robo.errors import ConfigError, MissingExtraError
from spie_robo.evaluation.preferences import HumanPreferenceScore, ImageReward, PickScore

TEXT = "a wooden table"


def test_pick_score_is_what_its_authors_compute(tiny_clip: Path, frames: Callable) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    images = [frame.rgb for frame in frames(2)]
    model, processor = (c.from_pretrained(tiny_clip) for c in (CLIPModel, CLIPProcessor))
    inputs = processor(text=[TEXT], images=images, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs).logits_per_image[:, 0]
    scores = PickScore(str(tiny_clip)).score(images, TEXT)
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-5)


def test_pick_score_without_a_model() -> None:
    with pytest.raises(ConfigError, match="PickScore 'nowhere'"):
        PickScore("nowhere")


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [(HumanPreferenceScore, "hpsv2", "hpsv2"), (ImageReward, "ImageReward", "image-reward")],
)
def test_missing_packages_are_named(
    make: Callable[[], Any], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"pip install {package}"):
        make()


def test_hps_gets_pictures_and_text(monkeypatch: pytest.MonkeyPatch, frames: Callable) -> None:
    package: Any = ModuleType("hpsv2")

    def score(pictures: list[Image.Image], text: str, hps_version: str) -> list[np.float32]:
        assert (text, hps_version) == (TEXT, "v2.1")
        return [np.float32(np.asarray(picture).mean()) for picture in pictures]

    package.score = score
    monkeypatch.setitem(sys.modules, "hpsv2", package)
    images = [frame.rgb for frame in frames(2)]
    scores = HumanPreferenceScore().score(images, TEXT)
    assert scores == pytest.approx([image.mean() for image in images], rel=1e-5)


def test_image_reward_gets_pictures_and_text(
    monkeypatch: pytest.MonkeyPatch, frames: Callable
) -> None:
    class Model:
        def score(self, text: str, picture: Image.Image) -> float:
            return float(len(text) + np.asarray(picture)[0, 0, 0])

    package: Any = ModuleType("ImageReward")
    package.load = lambda name, device: Model()
    monkeypatch.setitem(sys.modules, "ImageReward", package)
    assert ImageReward().score([frames(1)[0].rgb], TEXT) == [len(TEXT) + 150.0]
