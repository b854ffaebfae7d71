"""Judge depth from one picture, with the embedded judge or Depth Anything V2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spie_robo.errors import ConfigError
from spie_robo.feedback.config import EMBEDDED
from spie_robo.feedback.judges.batches import batches, normalised
from spie_robo.feedback.judges.loading import load_model, load_processor, model_type
from spie_robo.guard.judge import GeometryJudge, shipped_judge
from spie_robo.types import RGB

DepthScale: TypeAlias = Literal["log", "inverse"]
"""Scale of a judge's map: affine in ``log(depth)`` or in ``-1 / depth``."""

_ROLE = "Depth judge"
_SMALLEST_DEPTH = 1e-3  # metres: a sigmoid can reach 0, which has no logarithm


class DepthJudge(Protocol):
    """A judge that predicts relative depth."""

    def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
        """Return one map (h, w) an image, on the judge's own grid; larger is farther."""
        ...


@runtime_checkable
class DifferentiableDepth(Protocol):
    """A depth judge with gradients, for objectives that follow them."""

    def depth_of(self, pixels: Tensor) -> Tensor:
        """Return maps (N, h, w) of images (N, 3, H, W), sRGB in 0..255, on the judge's device."""
        ...


@final
class EmbeddedDepth:
    """The geometry judge that ships: log depth at 128x128, for tabletop scenes."""

    scale: DepthScale = "log"

    def __init__(self, device: str = "cpu", judge: GeometryJudge | None = None) -> None:
        """Load the shipped weights.

        Args:
            device: Device of the judge.
            judge: Judge to use in place of the embedded one.
        """
        self._judge = judge or shipped_judge(device)

    def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
        """Return log depth up to an offset, float32 (128, 128) an image.

        Raises:
            FrameError: If an element is not a uint8 image.
        """
        return [estimate.log_depth for estimate in self._judge.estimate(images)]

    def depth_of(self, pixels: Tensor) -> Tensor:
        """Return maps (N, 128, 128) with gradients, see :class:`DifferentiableDepth`."""
        size = self._judge.size
        if min(pixels.shape[-2:]) >= size:
            rows, columns = (_area_weights(side, size).to(pixels) for side in pixels.shape[-2:])
            resized = rows @ pixels @ columns.T
        else:
            resized = functional.interpolate(pixels, (size, size), mode="bilinear")
        log_depth: Tensor = self._judge(resized)[0]
        return log_depth.float()  # autocast gives half precision, which has no quantiles


def _area_weights(length: int, size: int) -> Tensor:
    """Return the weights of an average over ``size`` equal stretches of ``length`` pixels.

    They equal those of OpenCV's area average; PyTorch's ``area`` counts a pixel on a border fully
    in both stretches.

    Returns:
        (size, length), with rows that add up to 1.
    """
    edges = torch.arange(size + 1, dtype=torch.float64) * (length / size)
    begins = torch.arange(length, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], begins + 1) - torch.maximum(edges[:-1, None], begins)
    return shared.clamp(min=0) * (size / length)


@final
class DepthAnything:
    """Depth Anything V2 (Yang et al., NeurIPS 2024, arXiv 2406.09414) through transformers.

    The relative models predict inverse depth up to scale and offset, larger where nearer; this
    class returns its negative, so that larger is farther. The metric models predict metres, whose
    logarithm is returned.

    Licences: ``depth-anything/Depth-Anything-V2-Small-hf`` is Apache-2.0; Base and Large are
    CC-BY-NC-4.0, for non-commercial use only.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        """Load a model.

        Args:
            name: A local folder or a Hub id.
            device: Device of the model.

        Raises:
            ConfigError: If there is no such model, or a part of it is missing or broken.
        """
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        model_type(name, _ROLE, ("depth_anything",))
        self._model: Any = load_model(AutoModelForDepthEstimation, name, _ROLE, device)
        self._processor: Any = load_processor(AutoImageProcessor, name, _ROLE)
        self._device = device
        self._metric = self._model.config.depth_estimation_type == "metric"
        self.scale: DepthScale = "log" if self._metric else "inverse"

    @torch.no_grad()
    def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
        """Return relative depth, float32 (h, w) an image, on the model's own grid.

        Raises:
            FrameError: If an element is not a uint8 image.
        """
        maps: list[NDArray[np.float32]] = []
        for batch in batches(images, self._device):
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            maps += list(self._predict(pixels.to(self._device)).cpu().numpy())
        return maps

    def depth_of(self, pixels: Tensor) -> Tensor:
        """Return maps with gradients; images are resized in PyTorch, without rounding to bytes."""
        blank = np.zeros((*pixels.shape[-2:], 3), np.uint8)
        prepared = self._processor(images=blank, return_tensors="pt")["pixel_values"]
        height, width = prepared.shape[-2:]
        return self._predict(normalised(pixels, (height, width), self._processor))

    def _predict(self, prepared: Tensor) -> Tensor:
        predicted: Tensor = self._model(pixel_values=prepared).predicted_depth.float()
        return predicted.clamp(min=_SMALLEST_DEPTH).log() if self._metric else -predicted


def load_depth_judge(name: str, device: str = "cpu") -> EmbeddedDepth | DepthAnything:
    """Load a depth judge by name.

    Args:
        name: ``"embedded"``, or a local folder or Hub id of a Depth Anything V2 model.
        device: Device of the judge.

    Raises:
        ConfigError: If there is no such judge.
    """
    if name == EMBEDDED:
        return EmbeddedDepth(device)
    if name.startswith(f"{EMBEDDED}:"):
        raise ConfigError(f"{_ROLE}: expected 'embedded', got {name!r}: it has no other layers.")
    return DepthAnything(name, device)
