"""Measure the distance in look between a set of edits and a set of photos: KID."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast, final

import cv2
import torch
from torch import Tensor, nn

from spie_robo.errors import FrameError
from spie_robo.types import RGB, check_image
from spie_robo.vision.features import encoder, images_to_tensor

_BATCH = 16
_LARGEST_SUBSET = 50
_SUBSETS = 50


@final
class KernelDistance(NamedTuple):
    """A kernel distance and its deviation.

    Attributes:
        mean: Mean over random subsets; around 0 (it may be slightly negative) for equal looks.
        deviation: Standard deviation over subsets; 0 if there was only one.
    """

    mean: float
    deviation: float


Layer = Literal["embedding", "stride2", "stride4", "stride8", "stride16", "stride32"]


@final
class PooledFeatures(nn.Module):
    """EfficientNet-Lite0 features averaged over the image, in torchmetrics' form.

    Attributes:
        layer: ``"embedding"`` is the layer before the classifier, as in the usual KID. On
            path-traced labs ``"stride8"`` distinguishes looks more surely.
    """

    def __init__(self, layer: Layer = "embedding", device: str = "cpu") -> None:
        """Use the shared encoder of a device."""
        super().__init__()
        self.layer = layer
        self.encoder = encoder(device)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (N, 3, H, W) in 0..255 into (N, channels)."""
        if self.layer == "embedding":
            return self.encoder.embed(images)
        return cast(Tensor, getattr(self.encoder(images), self.layer).mean(dim=(2, 3)))


def kernel_distance(
    edits: Sequence[RGB],
    photos: Sequence[RGB],
    *,
    seed: int = 0,
    size: int = 128,
    extractor: nn.Module | None = None,
) -> KernelDistance:
    """Compute the kernel inception distance with EfficientNet-Lite0 in place of Inception.

    It is the squared maximum mean discrepancy with the kernel ``(x.y / d + 1)^3`` (Binkowski et
    al., "Demystifying MMD GANs", ICLR 2018). Compare values only if extractor, size and number of
    images are the same.

    Args:
        edits: uint8, (height, width, 3) each, of any sizes.
        photos: Photos of the look to reach, at least two, in the same form.
        seed: Seed of the random subsets.
        size: Height and width of the centred square that images are cropped to, pixels.
        extractor: Module from uint8 (N, 3, size, size) to (N, d); None: the embedding of
            :class:`PooledFeatures`.

    Returns:
        Mean and deviation over 50 subsets of at most 50 images; sets that are no larger than a
        subset give one subset with all images.

    Raises:
        FrameError: If a set has fewer than two images.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    smaller = min(len(edits), len(photos))
    if smaller < 2:
        raise FrameError(
            f"Expected at least two edits and two photos, got {len(edits)} and {len(photos)}."
        )
    subset = min(smaller, _LARGEST_SUBSET)
    everything = len(edits) == len(photos) == subset
    with warnings.catch_warnings():
        # torchmetrics warns about memory, but these are only a few hundred vectors.
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`")
        metric = KernelInceptionDistance(
            feature=extractor or PooledFeatures(),
            subset_size=subset,
            subsets=1 if everything else _SUBSETS,
        )
    device = next((p.device for p in metric.inception.parameters()), torch.device("cpu"))
    for images, real in ((photos, True), (edits, False)):
        for start in range(0, len(images), _BATCH):
            squares = [square(image, size) for image in images[start : start + _BATCH]]
            metric.update(images_to_tensor(squares, device), real=real)
    # The metric draws its subsets from torch's global generator, so seed that one for it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    return KernelDistance(float(mean), 0.0 if everything else float(deviation))


def square(image: RGB, size: int) -> RGB:
    """Crop the centred square and resize it.

    Args:
        image: uint8, (height, width, 3).
        size: New height and width, pixels.
    """
    check_image(image, "image")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = image[top : top + side, left : left + side]
    if side == size:
        return cropped
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cast(RGB, cv2.resize(cropped, (size, size), interpolation=method))
