"""A patch discriminator on frozen features: is this a path-traced picture in that photo's look?

Projected GANs (Sauer et al., arXiv 2111.01007): the discriminator sees images through a frozen
encoder and has only small heads to train, which makes it stable and quick. The reference photo
enters by projection (Miyato, Koyama, arXiv 1802.05637).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.pretraining.perceptual import LEVELS
from spie_robo.vision.features import PYRAMID_CHANNELS

_WIDTH = 64


@final
class _Head(nn.Module):
    """Scores every position of one level of the pyramid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.GroupNorm(8, _WIDTH),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(_WIDTH, 1, 1)
        self.look = nn.Linear(2 * channels, _WIDTH)

    def forward(self, features: Tensor, reference: Tensor) -> Tensor:
        hidden = self.body(features)
        moments = torch.cat([reference.mean(dim=(2, 3)), reference.std(dim=(2, 3))], dim=1)
        look = self.look(moments)[:, :, None, None]
        projection = (hidden * look).sum(dim=1, keepdim=True) / _WIDTH**0.5
        return cast(Tensor, (self.score(hidden) + projection).flatten(1))


@final
class Discriminator(nn.Module):
    """One head a level; reads pyramids of :func:`spie_robo.pretraining.perceptual.pyramid`."""

    def __init__(self) -> None:
        """Random heads."""
        super().__init__()
        self.heads = nn.ModuleList(_Head(int(channels)) for channels in PYRAMID_CHANNELS[:LEVELS])

    def forward(self, features: Sequence[Tensor], reference: Sequence[Tensor]) -> list[Tensor]:
        """Score images.

        Args:
            features: The pyramid of B images.
            reference: That of the reference photos.

        Returns:
            One (B, positions) tensor a level; positive: path-traced, in the photo's look.
        """
        triples = zip(self.heads, features, reference, strict=True)
        return [head(level, photo) for head, level, photo in triples]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While inside, scores carry gradients to the images but not to the heads."""
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """The hinge loss ``max(0, 1 - D(real)) + max(0, 1 + D(fake))``, mean over levels."""
    levels = [
        functional.relu(1 - a).mean() + functional.relu(1 + b).mean()
        for a, b in zip(real, fake, strict=True)
    ]
    return torch.stack(levels).mean()


def deception_loss(fake: Sequence[Tensor]) -> Tensor:
    """The editor's side, ``-D(fake)``, mean over levels; (B,)."""
    return -torch.stack([level.mean(dim=1) for level in fake]).mean(dim=0)
