"""Compute the visual prompt: a reference photo as ``C`` extra latent channels of the UNet.

``(style latent, input latent, text states) -> VisualPrompt -> C channels of the UNet's input``
"""

from __future__ import annotations

from typing import final

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from spie_robo.errors import ConfigError

HEADS = 8


@final
class VisualPrompt(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """One cross-attention block from latent pixels to the tokens of the instruction.

    With style latent ``s``, input latent ``z``, both (C, h, w), and text states ``c``::

        q = W_in [s; z]                  one token per latent pixel, 2C -> D
        a = Attention(q, c)              8 heads; keys and values from the text
        p = W_out (q + a)                D -> C

    The prompt does not depend on the denoising step, so it is computed once an edit.

    Args:
        latent_channels: C.
        inner_dim: D, a multiple of 8; the width of the UNet's first block.
        text_dim: Width of the text states.

    Raises:
        ConfigError: If ``inner_dim`` is not a multiple of the number of heads.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int, inner_dim: int, text_dim: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        if inner_dim % HEADS:
            raise ConfigError(
                f"inner_dim of the visual prompt: expected a multiple of {HEADS} (its heads), "
                f"got {inner_dim}. Choose block_out_channels[0] of the UNet accordingly."
            )
        self.proj_in = nn.Linear(2 * latent_channels, inner_dim)
        self.attention = Attention(
            query_dim=inner_dim,
            cross_attention_dim=text_dim,
            heads=HEADS,
            dim_head=inner_dim // HEADS,
        )
        self.proj_out = nn.Linear(inner_dim, latent_channels)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel) -> VisualPrompt:
        """Make the visual prompt that fits a UNet.

        Keys and values are copied from the UNet's first cross-attention, which reads the same text
        states, if both have the same width. This is so if the UNet's first block attends to text,
        as in Stable Diffusion. If the first cross-attention is in a later, wider block, keys and
        values keep their random weights.

        ``proj_out`` is *not* zero, because the new input channels of ``conv_in`` are
        (:func:`spie_robo.editor.conv_in.grow_conv_in`): of two zero factors neither would ever
        get a gradient.

        Args:
            unet: UNet with C output channels and 2C or 3C input channels.
        """
        text_dim = unet.config.cross_attention_dim
        text_dim = text_dim if isinstance(text_dim, int) else text_dim[0]
        prompt: VisualPrompt = cls(
            unet.config.out_channels, unet.config.block_out_channels[0], text_dim
        )
        source = _first_cross_attention(unet)
        if source is not None and source.to_k.weight.shape == prompt.attention.to_k.weight.shape:
            prompt.attention.to_k.weight.data.copy_(source.to_k.weight.data)
            prompt.attention.to_v.weight.data.copy_(source.to_v.weight.data)
        # Use nn.Module's own `to`: diffusers' warns about each cast.
        nn.Module.to(prompt, device=unet.device, dtype=unet.dtype)
        return prompt

    def forward(self, style_latents: Tensor, input_latents: Tensor, text: Tensor) -> Tensor:
        """Compute the prompt.

        Args:
            style_latents: (B, C, h, w), latents of the reference photos.
            input_latents: (B, C, h, w), latents of the frames.
            text: (B, T, text_dim), states of the text encoder.

        Returns:
            (B, C, h, w).
        """
        height, width = input_latents.shape[-2:]
        pixels = torch.cat([style_latents, input_latents], dim=1)
        tokens = self.proj_in(pixels.flatten(2).transpose(1, 2))
        # Attention alone returns a mixture of *text* values, and the photo only chooses the
        # mixture; an empty text leaves no choice. Adding the attended values to the tokens passes
        # the photo itself to the UNet, whatever the text is.
        attended = tokens + self.attention(tokens, encoder_hidden_states=text)
        channels: Tensor = self.proj_out(attended).transpose(1, 2)
        return channels.reshape(*channels.shape[:2], height, width)


def _first_cross_attention(unet: UNet2DConditionModel) -> Attention | None:
    for name, module in unet.named_modules():
        if name.endswith("attn2") and isinstance(module, Attention):
            return module
    return None
