"""Find a region by phrase: Grounding DINO finds boxes, SAM 1 or SAM 2 makes them a mask."""

from __future__ import annotations

from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.errors import FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.loading import load_model, load_processor, model_type
from spie_robo.feedback.records import Mask
from spie_robo.types import RGB, check_image

_DETECTOR, _SEGMENTER = "Detector", "Segmenter"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class PhraseSegmenter(Protocol):
    """A segmenter that finds what a phrase describes."""

    def segment(self, image: RGB, phrase: str) -> Mask:
        """Return one mask, (H, W), of all matches; FrameError if there is none."""
        ...


class BoxSegmenter(Protocol):
    """A segmenter that turns boxes into masks."""

    def masks(self, image: RGB, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return masks (n, H, W) for boxes (n, 4), left, top, right, bottom in pixels."""
        ...


@final
class GroundedSegmenter:
    """A detector and a segmenter: the union of the masks of Grounding DINO's boxes."""

    def __init__(self, detector: GroundingDino, segmenter: BoxSegmenter) -> None:
        """Join a detector and a segmenter."""
        self._detector = detector
        self._segmenter = segmenter

    def segment(self, image: RGB, phrase: str) -> Mask:
        """Segment everything that a phrase describes.

        Args:
            image: uint8, (height, width, 3).
            phrase: Description, e.g. ``"the wooden table"``; several words are one phrase.

        Returns:
            bool, (height, width), never empty.

        Raises:
            FrameError: If nothing is found.
        """
        check_image(image, "image to segment")
        boxes = self._detector.boxes(image, phrase)
        masks = self._segmenter.masks(image, boxes) if len(boxes) else np.zeros((0,), np.bool_)
        if not masks.any():
            raise FrameError(
                f"Nothing that looks like {phrase!r} was found in an image of "
                f"{image.shape[0]}x{image.shape[1]} pixels ({len(boxes)} boxes). Describe it in "
                "other words, or use another kind of region."
            )
        return np.asarray(masks.any(axis=0), dtype=np.bool_)


@final
class GroundingDino:
    """Grounding DINO (Liu et al., arXiv 2303.05499) through transformers."""

    def __init__(self, name: str, device: str = "cpu", threshold: float = 0.25) -> None:
        """Load a model.

        Args:
            name: A local folder or a Hub id, e.g. ``"IDEA-Research/grounding-dino-tiny"``.
            device: Device of the model.
            threshold: Least confidence of a box, 0 to 1.

        Raises:
            ConfigError: If there is no such model, or a part of it is missing or broken.
        """
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        model_type(name, _DETECTOR, ("grounding-dino",))
        model_class = AutoModelForZeroShotObjectDetection
        self._model: Any = load_model(model_class, name, _DETECTOR, device)
        self._processor: Any = load_processor(AutoProcessor, name, _DETECTOR)
        self._device = device
        self._threshold = threshold

    @torch.no_grad()
    def boxes(self, image: RGB, phrase: str) -> NDArray[np.float32]:
        """Return boxes (n, 4) for a phrase: left, top, right, bottom in pixels."""
        # Grounding DINO was trained on lower-case phrases that end with a full stop.
        text = f"{phrase.strip().rstrip('.').lower()}."
        inputs = self._processor(images=image, text=text, return_tensors="pt").to(self._device)
        (found,) = self._processor.post_process_grounded_object_detection(
            self._model(**inputs),
            inputs["input_ids"],
            threshold=self._threshold,
            text_threshold=self._threshold,
            target_sizes=[image.shape[:2]],
        )
        height, width = image.shape[:2]
        boxes = np.asarray(found["boxes"].float().cpu().numpy(), dtype=np.float32)
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


@final
class Sam1:
    """SAM (Kirillov et al., arXiv 2304.02643) through transformers."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        """Load a model from a local folder or a Hub id, e.g. ``"facebook/sam-vit-base"``.

        Raises:
            ConfigError: If there is no such model, or a part of it is missing or broken.
        """
        from transformers import SamModel, SamProcessor

        self._model: Any = load_model(SamModel, name, _SEGMENTER, device)
        self._processor: Any = load_processor(SamProcessor, name, _SEGMENTER)
        self._device = device

    @torch.no_grad()
    def masks(self, image: RGB, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the likeliest mask of each box, bool (n, H, W)."""
        inputs = self._processor(images=image, input_boxes=[boxes.tolist()], return_tensors="pt")
        output = self._model(
            pixel_values=inputs["pixel_values"].to(self._device),
            input_boxes=inputs["input_boxes"].float().to(self._device),
            multimask_output=True,
        )
        best = _likeliest(output.pred_masks, output.iou_scores)
        (masks,) = self._processor.post_process_masks(
            best[None, :, None].cpu(), inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )
        return np.asarray(masks[:, 0].numpy(), dtype=np.bool_)


@final
class Sam2:
    """SAM 2 (Ravi et al., arXiv 2408.00714), image model, through transformers.

    ``Sam2ImageProcessor`` needs torchvision. Its work is short and the same for all published
    checkpoints, so this class does it: resize to the model's square, ImageNet mean and deviation.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        """Load a model from a local folder or a Hub id, e.g. ``"facebook/sam2.1-hiera-tiny"``.

        Raises:
            ConfigError: If there is no such model, or a part of it is missing or broken.
        """
        from transformers import Sam2Model

        self._model: Any = load_model(Sam2Model, name, _SEGMENTER, device)
        self._device = device

    @torch.no_grad()
    def masks(self, image: RGB, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the likeliest mask of each box, bool (n, H, W)."""
        side = int(self._model.config.prompt_encoder_config.image_size)
        height, width = image.shape[:2]
        scale = np.array([side / width, side / height] * 2, np.float32)
        output = self._model(
            pixel_values=sam2_pixels(image, side).to(self._device),
            input_boxes=torch.from_numpy(boxes * scale)[None].to(self._device),
            multimask_output=True,
        )
        best = _likeliest(output.pred_masks, output.iou_scores)
        enlarged = torch.nn.functional.interpolate(
            best[None].float(), (height, width), mode="bilinear", align_corners=False
        )
        return np.asarray((enlarged[0] > 0).cpu().numpy(), dtype=np.bool_)


def sam2_pixels(image: RGB, side: int) -> Tensor:
    """Prepare an image as ``Sam2ImageProcessor`` does.

    Args:
        image: uint8, (height, width, 3).
        side: Height and width of the model's input, pixels.

    Returns:
        float32, (1, 3, side, side).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    # Resize in uint8 like torchvision: its rounding is part of the published preprocessing.
    resized = torch.nn.functional.interpolate(
        pixels, (side, side), mode="bilinear", align_corners=False, antialias=True
    )
    unit = resized.float() / 255.0
    mean, deviation = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_DEVIATION)
    return (unit - mean[:, None, None]) / deviation[:, None, None]


def _likeliest(masks: Tensor, scores: Tensor) -> Tensor:
    """Return the best mask of each box, (n, h, w), of candidates (1, n, m, h, w)."""
    best = scores[0].argmax(dim=1)
    return masks[0, torch.arange(len(best), device=masks.device), best]


def load_segmenter(config: FeedbackConfig, device: str = "cpu") -> PhraseSegmenter | None:
    """Load the segmenter of a configuration; None if its region is not ``phrase``.

    Args:
        config: Settings with ``detector``, a Grounding DINO model, and ``segmenter``, a SAM 1 or
            SAM 2 model, which its config distinguishes.
        device: Device of the models.

    Raises:
        ConfigError: If a model does not exist, is of another kind, or is incomplete.
    """
    if config.region != "phrase":
        return None
    kinds = ("sam", "sam2", "sam2_video")  # SAM 2 is published as the video model
    kind = model_type(config.segmenter, _SEGMENTER, kinds)
    box_segmenter: BoxSegmenter = (Sam1 if kind == "sam" else Sam2)(config.segmenter, device)
    return GroundedSegmenter(GroundingDino(config.detector, device), box_segmenter)
