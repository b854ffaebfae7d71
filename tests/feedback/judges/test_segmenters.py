from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError, FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.segmenters import (
    GroundedSegmenter,
    GroundingDino,
    Sam1,
    Sam2,
    load_segmenter,
    sam2_pixels,
)

BOXES = np.array([[4, 6, 40, 44], [10, 2, 30, 20]], np.float32)


class FixedBoxes:
    """Stands in for the detector: boxes of a fixed place, whatever the phrase."""

    def __init__(self, boxes: np.ndarray) -> None:
        self._boxes = boxes

    def boxes(self, image, phrase):
        return self._boxes


class FillBoxes:
    """Stands in for SAM: each mask is its box."""

    def masks(self, image, boxes):
        masks = np.zeros((len(boxes), *image.shape[:2]), np.bool_)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = True
        return masks


def test_the_region_is_the_union_of_all_that_was_found(noise) -> None:
    mask = GroundedSegmenter(FixedBoxes(BOXES), FillBoxes()).segment(noise(0), "cubes")
    assert mask.shape == (64, 64) and mask.dtype == np.bool_
    assert mask.sum() == 36 * 38 + 20 * 4  # the second box stands out above the first


@pytest.mark.parametrize("boxes", [np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32)])
def test_nothing_found_is_an_error_and_not_everything(noise, boxes) -> None:
    with pytest.raises(FrameError, match=f"'the unicorn'.*{len(boxes)} boxes"):
        GroundedSegmenter(FixedBoxes(boxes), FillBoxes()).segment(noise(0), "the unicorn")


def test_grounding_dino_finds_boxes_within_the_image(save_model, noise) -> None:
    detector = GroundingDino(str(save_model("grounding_dino")), threshold=0.0)
    assert type(detector._model).__name__ == "GroundingDinoForObjectDetection"
    boxes = detector.boxes(noise(0, 48, 80), "The red cube")
    assert boxes.shape[1] == 4 and 0 < len(boxes) <= 5
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 80).all() and (boxes[:, [1, 3]] <= 48).all()
    assert (boxes[:, 2] > boxes[:, 0]).all() and (boxes[:, 3] > boxes[:, 1]).all()


def test_a_phrase_is_one_lower_case_sentence(save_model, noise, monkeypatch) -> None:
    detector = GroundingDino(str(save_model("grounding_dino")))
    seen = []
    processor = detector._processor
    original = type(processor).__call__

    def spy(self, *args, **kwargs):
        seen.append(kwargs["text"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(processor), "__call__", spy)
    for phrase in ("The Red Cube", " the red cube. "):
        detector.boxes(noise(0), phrase)
    assert seen == ["the red cube."] * 2


def test_a_high_threshold_finds_nothing(save_model, noise) -> None:
    detector = GroundingDino(str(save_model("grounding_dino")), threshold=1.0)
    assert detector.boxes(noise(0), "table").shape == (0, 4)


def test_without_torchvision_the_processors_fall_back_to_pil(save_model) -> None:
    from transformers.utils import is_torchvision_available

    suffix = "" if is_torchvision_available() else "Pil"
    detector = GroundingDino(str(save_model("grounding_dino")))
    sam = Sam1(str(save_model("sam")))
    name = type(detector._processor.image_processor).__name__
    assert name == f"GroundingDinoImageProcessor{suffix}"
    assert type(sam._processor.image_processor).__name__ == f"SamImageProcessor{suffix}"


@pytest.mark.parametrize(("kind", "judge"), [("sam", Sam1), ("sam2", Sam2)])
def test_sam_gives_one_mask_a_box_of_the_image_s_size(save_model, noise, kind, judge) -> None:
    segmenter = judge(str(save_model(kind)))
    image = noise(0, 48, 80)
    masks = segmenter.masks(image, BOXES)
    assert masks.shape == (2, 48, 80) and masks.dtype == np.bool_
    assert np.array_equal(masks, segmenter.masks(image, BOXES))
    assert np.array_equal(masks[1:], segmenter.masks(image, BOXES[1:]))


@pytest.mark.parametrize(("kind", "judge"), [("sam", Sam1), ("sam2", Sam2)])
def test_the_likeliest_candidate_is_taken_and_boxes_are_scaled(
    save_model, noise, monkeypatch, kind, judge
) -> None:
    segmenter = judge(str(save_model(kind)))
    seen = {}

    def forward(*, pixel_values, input_boxes, multimask_output):
        seen.update(pixels=tuple(pixel_values.shape), boxes=input_boxes, many=multimask_output)
        masks = torch.full((1, 2, 3, 16, 16), -1.0)
        masks[0, 0, 2] = 1.0  # all of it, for the first box's best candidate
        masks[0, 1, 1, :, :8] = 1.0  # the left half, for the second's
        scores = torch.tensor([[[0.1, 0.2, 0.9], [0.3, 0.8, 0.1]]])
        return type("Output", (), {"pred_masks": masks, "iou_scores": scores})

    monkeypatch.setattr(segmenter._model, "forward", forward)
    masks = segmenter.masks(noise(0, 32, 32), BOXES[:, [0, 1, 2, 3]] / 2)
    assert seen["pixels"] == (1, 3, 64, 64) and seen["many"] is True
    assert seen["boxes"].tolist() == [BOXES.tolist()]  # 32 pixels are 64 of the model's
    assert masks[0].all()
    assert masks[1, :, :15].all() and not masks[1, :, 17:].any()


def test_sam_2_pixels_are_the_published_preprocessing() -> None:
    """Resized to a square in uint8, then ImageNet's mean and deviation."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 0] = 255
    pixels = sam2_pixels(image, 64)
    assert pixels.shape == (1, 3, 64, 64)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert pixels[0, :, 5, 5].tolist() == pytest.approx(expected, rel=1e-5)
    levels = sam2_pixels(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), 64)
    grey = (levels[0, 0] * 0.229 + 0.485) * 255
    assert torch.allclose(grey, grey.round(), atol=1e-3)


def test_sam_2_pixels_equal_the_processor_s_where_torchvision_is_installed(noise) -> None:
    pytest.importorskip("torchvision")
    from transformers import Sam2ImageProcessor

    expected = Sam2ImageProcessor()(images=noise(0, 96, 128), return_tensors="pt")["pixel_values"]
    assert torch.allclose(sam2_pixels(noise(0, 96, 128), 1024), expected, atol=1e-5)


def _config(detector: Path, segmenter: Path) -> FeedbackConfig:
    return FeedbackConfig(
        region="phrase",
        region_phrase="the red cube",
        detector=str(detector),
        segmenter=str(segmenter),
    )


@pytest.mark.parametrize(("kind", "judge"), [("sam", Sam1), ("sam2", Sam2), ("video", Sam2)])
def test_the_segmenter_is_told_by_its_config(save_model, kind, judge) -> None:
    folder = save_model("sam2" if kind == "video" else kind)
    if kind == "video":  # the form that SAM 2 is published in
        config = json.loads((folder / "config.json").read_text())
        config.update(model_type="sam2_video", architectures=["Sam2VideoModel"])
        (folder / "config.json").write_text(json.dumps(config))
    found = load_segmenter(_config(save_model("grounding_dino"), folder))
    assert isinstance(found, GroundedSegmenter)
    assert isinstance(found._segmenter, judge)


def test_a_model_of_another_kind_is_refused(save_model) -> None:
    sam, detector = save_model("sam"), save_model("grounding_dino")
    with pytest.raises(ConfigError, match=r"Segmenter.*sam or sam2.*got 'grounding-dino'"):
        load_segmenter(_config(detector, detector))
    with pytest.raises(ConfigError, match=r"Detector.*grounding-dino.*got 'sam'"):
        load_segmenter(_config(sam, sam))


def test_no_segmenter_is_loaded_where_none_is_needed() -> None:
    assert load_segmenter(FeedbackConfig()) is None
