"""Define the network of the second embedded editor: one pass from a frame to a photo.

``frame --8x8 patches--> (48, H/8, W/8) --U-net over tokens of the photos--> patches --> pixels``

A few full-resolution convolutions after decoding remove the borders of the patches; they also read
the frame and its outlines, so that edges stay sharp.
"""

from __future__ import annotations

from typing import cast, final

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.editor.frame_geometry import CHANNELS as GEOMETRY_CHANNELS
from spie_robo.editor.reference_tokens import token_width
from spie_robo.errors import ConfigError

PATCH = 8
_HEAD_WIDTH = 32
_PIXEL_WIDTH = 24


@final
class GeometryUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """A network that predicts the patches of the photo, and then its pixels.

    Args:
        latent_channels: C, channels of the linear 8x8 autoencoder.
        widths: Channels at strides 8, 16 and 32.
        layers: Number of residual blocks at each level, on each side.
        token_dim: Width of the photos' tokens.
        noise_channels: Channels of the noise, which decides what the other inputs leave open.

    Raises:
        ConfigError: If a width is not a multiple of 32.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 48,
        widths: tuple[int, ...] = (128, 224, 320),
        layers: int = 2,
        token_dim: int = 224,
        noise_channels: int = 4,
    ) -> None:
        """Build the layers; the last ones start at zero, so that training starts from the frame."""
        super().__init__()
        if any(width % 32 for width in (*widths, token_dim)):
            raise ConfigError(f"widths, token_dim: expected multiples of 32, got {widths}.")
        self.tokens = nn.Sequential(
            nn.LayerNorm(token_width(latent_channels)),
            nn.Linear(token_width(latent_channels), token_dim),
            nn.SiLU(),
            nn.Linear(token_dim, token_dim),
        )
        self.look = nn.Sequential(nn.Linear(2 * token_dim, token_dim), nn.SiLU())
        self.geometry = nn.Conv2d(GEOMETRY_CHANNELS, 64, PATCH, stride=PATCH)
        self.stem = nn.Conv2d(latent_channels + 64 + noise_channels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(_Level(width, width, layers, token_dim, attend=level > 0))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
        self.middle = _Level(widths[-1], widths[-1], 1, token_dim, attend=True)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            width = widths[level]
            self.up.append(_Level(2 * width, width, layers, token_dim, attend=True))
            if level:
                self.grow.append(nn.Conv2d(width, widths[level - 1], 3, padding=1))
        self.head = nn.Sequential(
            nn.GroupNorm(16, widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], latent_channels, 3, padding=1),
        )
        self.pixels = nn.Sequential(
            nn.Conv2d(6 + GEOMETRY_CHANNELS, _PIXEL_WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(_PIXEL_WIDTH, _PIXEL_WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(_PIXEL_WIDTH, 3, 3, padding=1),
        )
        _silence(self.head[-1])
        _silence(self.pixels[-1])

    def forward(self, latents: Tensor, geometry: Tensor, patches: Tensor, noise: Tensor) -> Tensor:
        """Predict the patches of the photo.

        Args:
            latents: (B, C, h, w), latents of the frame; h and w multiples of 4.
            geometry: (B, 6, 8 h, 8 w), see :mod:`.frame_geometry`; zeros if unknown.
            patches: (B, T, D), descriptions of the photos' patches in any number and order.
            noise: (B, noise_channels, h, w).

        Returns:
            (B, C, h, w), to be decoded and then passed to :meth:`finish`.
        """
        tokens = self.tokens(patches)
        look = self.look(torch.cat([tokens.mean(dim=1), tokens.std(dim=1)], dim=1))
        hidden = self.stem(torch.cat([latents, self.geometry(geometry), noise], dim=1))
        kept = []
        for index, level in enumerate(self.down):
            hidden = level(hidden, look, tokens)
            kept.append(hidden)
            if index < len(self.shrink):
                hidden = self.shrink[index](hidden)
        hidden = self.middle(hidden, look, tokens)
        for index, level in enumerate(self.up):
            hidden = level(torch.cat([hidden, kept.pop()], dim=1), look, tokens)
            if index < len(self.grow):
                hidden = self.grow[index](functional.interpolate(hidden, scale_factor=2.0))
        return cast(Tensor, latents + self.head(hidden))

    def finish(self, decoded: Tensor, frame: Tensor, geometry: Tensor) -> Tensor:
        """Remove the borders of the patches.

        Args:
            decoded: (B, 3, H, W), the decoded patches.
            frame: (B, 3, H, W) in [-1, 1].
            geometry: (B, 6, H, W).

        Returns:
            (B, 3, H, W), about [-1, 1], not clipped.
        """
        return decoded + cast(Tensor, self.pixels(torch.cat([decoded, frame, geometry], dim=1)))


@final
class _Level(nn.Module):
    """Residual blocks at one size, each with attention to the photos."""

    def __init__(
        self, width_in: int, width: int, layers: int, token_dim: int, attend: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Residual(width_in if index == 0 else width, width, token_dim)
            for index in range(layers)
        )
        self.attention = nn.ModuleList(
            _PhotoAttention(width, token_dim) if attend and index == layers - 1 else nn.Identity()
            for index in range(layers)
        )

    def forward(self, hidden: Tensor, look: Tensor, tokens: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attention, strict=True):
            hidden = block(hidden, look)
            if isinstance(attention, _PhotoAttention):
                hidden = attention(hidden, tokens)
        return hidden


@final
class _Residual(nn.Module):
    """Two convolutions, scaled and shifted by the photos' look."""

    def __init__(self, width_in: int, width: int, look_dim: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(16, width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1)
        )
        self.norm = nn.GroupNorm(16, width, affine=False)
        self.modulation = nn.Linear(look_dim, 2 * width)
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        _silence(self.modulation)

    def forward(self, hidden: Tensor, look: Tensor) -> Tensor:
        scale, shift = self.modulation(look)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(self.first(hidden)) * (1 + scale) + shift
        return cast(Tensor, self.skip(hidden) + self.second(inner))


@final
class _PhotoAttention(nn.Module):
    """Attention of every place of the frame to all patches of all photos."""

    def __init__(self, width: int, token_dim: int) -> None:
        super().__init__()
        self.heads = width // _HEAD_WIDTH
        self.norm = nn.GroupNorm(16, width)
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Linear(token_dim, 2 * width)
        self.out = nn.Conv2d(width, width, 1)
        _silence(self.out)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        batch, width, height, across = hidden.shape
        query = self.query(self.norm(hidden)).flatten(2).transpose(1, 2)
        key, value = self.key_value(tokens).chunk(2, dim=2)
        query, key, value = (self._split(part) for part in (query, key, value))
        found = functional.scaled_dot_product_attention(query, key, value)
        found = found.transpose(1, 2).reshape(batch, height, across, width).permute(0, 3, 1, 2)
        return cast(Tensor, hidden + self.out(found))

    def _split(self, part: Tensor) -> Tensor:
        """Split (B, T, width) into (B, heads, T, head width)."""
        return part.reshape(*part.shape[:2], self.heads, _HEAD_WIDTH).transpose(1, 2)


def _silence(layer: nn.Module) -> None:
    """Set a layer's weights to zero, so that it starts without effect."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
