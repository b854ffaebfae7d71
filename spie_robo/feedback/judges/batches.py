"""Feed images to a judge in small batches, and on a CPU one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spie_robo.types import RGB, check_image

_MOST = 16


def batches(images: Sequence[RGB], device: str) -> Iterator[list[RGB]]:
    """Split images, in their order, into batches of one size.

    On a CPU each image is its own batch: convolutions may round differently at another batch size,
    and a score must not depend on the other images. On one thread this costs no time.

    Args:
        images: uint8, (height, width, 3) each; sizes may differ.
        device: Device of the judge.

    Yields:
        At most 16 images of one size.

    Raises:
        FrameError: If an element is not a uint8 image.
    """
    for index, image in enumerate(images):
        check_image(image, f"image {index}")
    most = 1 if device == "cpu" else _MOST
    for _, group in itertools.groupby(images, key=lambda image: image.shape):
        alike = list(group)
        for start in range(0, len(alike), most):
            yield alike[start : start + most]


def normalised(pixels: Tensor, size: tuple[int, int], processor: Any) -> Tensor:
    """Prepare images as a transformers image processor does, with gradients to them.

    Args:
        pixels: (N, 3, H, W), 0..255.
        size: Height and width of the model's input, pixels.
        processor: Processor with mean and deviation of the channels, for values in 0..1.
    """
    resized = functional.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
        for values in (processor.image_mean, processor.image_std)
    )
    return (resized.clamp(0, 255) / 255 - mean) / std
