"""Encode a window of observations to one vector: an image encoder a camera, and the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class SpatialSoftmax(nn.Module):
    """A layer that gives the expected image coordinates of each channel's softmax.

    Source: Levine et al., "End-to-End Training of Deep Visuomotor Policies" (JMLR 2016), here with
    one learned temperature.
    """

    def __init__(self) -> None:
        """Start with temperature 1."""
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Turn (N, C, h, w) into (N, 2 C): x of all channels, then y, each in -1..1."""
        count, channels, height, width = maps.shape
        flat = maps.reshape(count, channels, height * width) / self.log_temperature.exp()
        weights = flat.softmax(dim=-1).reshape(count, channels, height, width)
        x = torch.linspace(-1, 1, width, device=maps.device)
        y = torch.linspace(-1, 1, height, device=maps.device)
        return torch.cat([(weights.sum(2) * x).sum(-1), (weights.sum(3) * y).sum(-1)], dim=1)


@final
class ImageEncoder(nn.Module):
    """A small encoder of convolutions and keypoints, trained from scratch.

    It has two convolutions of stride 2 and two of stride 1, so that maps have a quarter of the
    image's side: precise to a pixel or two, and cheap on a CPU.

    Args:
        width: Channels of the last maps.
        features: Length of the vector.
    """

    def __init__(self, width: int = 32, features: int = 64) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        half = width // 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, half, 5, stride=2, padding=2),
            nn.GroupNorm(4, half),
            nn.ReLU(),
            nn.Conv2d(half, width, 3, stride=2, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.keypoints = SpatialSoftmax()
        self.head = nn.Sequential(nn.Linear(2 * width, features), nn.LayerNorm(features), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Turn float images in -1..1, (N, 3, side, side), into vectors (N, features)."""
        vector: Tensor = self.head(self.keypoints(self.convolutions(images)))
        return vector


@final
class ObservationEncoder(nn.Module):
    """An :class:`ImageEncoder` for each camera and a layer for the state, joined over the steps.

    Args:
        cameras: Names of the cameras.
        state_dim: Number of values in a state; 0 for none.
        observation_horizon: Observation steps of a window, To.
        width: Channels of the image encoders.
        features: Length of each camera's vector.

    Attributes:
        output_dim: Length of the vector of a window.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        state_dim: int,
        observation_horizon: int,
        width: int = 32,
        features: int = 64,
    ) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        # Number the modules: a camera's name may have dots, a module's may not.
        self._cameras = tuple(cameras)
        self.images = nn.ModuleList(ImageEncoder(width, features) for _ in cameras)
        self.state = nn.Sequential(nn.Linear(state_dim, features), nn.ReLU()) if state_dim else None
        parts = len(self._cameras) + (state_dim > 0)
        self.output_dim = observation_horizon * features * parts

    def forward(self, images: Mapping[str, Tensor], state: Tensor) -> Tensor:
        """Encode windows.

        Args:
            images: By camera, float in -1..1, (B, To, 3, side, side).
            state: (B, To, S), normalised.

        Returns:
            (B, output_dim), one vector a window.
        """
        parts = []
        for name, encoder in zip(self._cameras, self.images, strict=True):
            image = images[name]
            vectors = encoder(image.flatten(0, 1))
            parts.append(vectors.reshape(*image.shape[:2], -1))
        if self.state is not None:
            parts.append(self.state(state))
        return torch.cat(parts, dim=-1).flatten(1)


def random_shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each window by up to ``most`` pixels, all its steps alike, and repeat the edges.

    Source: the augmentation of DrQ (Yarats et al., ICLR 2021).

    Args:
        images: float, (B, To, 3, side, side).
        most: Largest shift, pixels; 0 changes nothing.
        generator: CPU generator of the shifts.
    """
    if not most:
        return images
    count, steps, _, side, _ = images.shape
    padded = functional.pad(images.flatten(0, 1), (most,) * 4, mode="replicate")
    padded = padded.reshape(count, steps, 3, side + 2 * most, side + 2 * most)
    shifts = torch.randint(0, 2 * most + 1, (count, 2), generator=generator).tolist()
    return torch.stack(
        [padded[i, ..., y : y + side, x : x + side] for i, (y, x) in enumerate(shifts)]
    )


def color_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change the gain and the offset of each window's colour channels at random.

    Args:
        images: float in -1..1, (B, To, 3, side, side).
        strength: Largest change of the gain, and of the offset in units of half the range.
        generator: CPU generator of the changes.
    """
    if not strength:
        return images
    draw = torch.rand((2, len(images), 1, 3, 1, 1), generator=generator).to(images.device) * 2 - 1
    return (images * (1 + strength * draw[0]) + strength * draw[1]).clamp(-1, 1)
