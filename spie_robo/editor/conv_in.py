"""Change the UNet's first convolution: 2C input channels in stock InstructPix2Pix, 3C here.

Channel order of the grown input: noisy latents, image latents, visual prompt (C each).
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from spie_robo.errors import EditorError


def style_weight_of(unet: UNet2DConditionModel) -> Tensor:
    """Return a view of the style channels (width, C, k, k) of a grown ``conv_in``.

    Raises:
        EditorError: If the UNet has no style channels.
    """
    channels, grown = unet.config.out_channels, unet.conv_in
    if grown.in_channels != 3 * channels:
        raise EditorError(
            f"UNet: expected {3 * channels} input channels, got {grown.in_channels}. "
            "Only a grown UNet has style channels."
        )
    weight: Tensor = grown.weight.data
    return weight[:, 2 * channels :]


def grow_conv_in(unet: UNet2DConditionModel, style_weight: Tensor | None = None) -> None:
    """Grow ``conv_in`` from 2C to 3C input channels, in place.

    Args:
        unet: A UNet with C output and 2C input channels.
        style_weight: (width, C, k, k), weights of the new channels; None makes them zero, so
            that the UNet's output does not change.

    Raises:
        EditorError: If the UNet has other channels.
    """
    channels, old = unet.config.out_channels, unet.conv_in
    if old.in_channels != 2 * channels:
        raise EditorError(
            f"UNet: expected {2 * channels} input channels (InstructPix2Pix: twice its "
            f"{channels} output channels), got {old.in_channels}. Plain text-to-image UNets "
            "cannot edit."
        )
    shape = (old.out_channels, channels, *old.kernel_size)
    if style_weight is None:
        style_weight = torch.zeros(shape)
    if tuple(style_weight.shape) != shape:
        raise EditorError(
            f"Style weights of conv_in: expected shape {shape}, got {tuple(style_weight.shape)}. "
            "They belong to another UNet."
        )
    style_weight = style_weight.to(old.weight)
    unet.conv_in = _convolution(old, torch.cat([old.weight.data, style_weight], dim=1))
    unet.register_to_config(in_channels=3 * channels)


def shrink_conv_in(unet: UNet2DConditionModel) -> tuple[UNet2DConditionModel, Tensor]:
    """Split a grown UNet into a stock UNet and the weights of its style channels.

    Args:
        unet: A UNet with 3C input channels, which is not changed.

    Returns:
        A copy with 2C input channels, and the style weights (width, C, k, k).

    Raises:
        EditorError: If the UNet has other channels or an unmerged LoRA.
    """
    style_weight = style_weight_of(unet).clone()
    channels = unet.config.out_channels
    if getattr(unet, "peft_config", None):
        raise EditorError(
            "The UNet carries a LoRA that is not merged. Save an adapter folder instead "
            "(spie_robo.editor.adapter.save_adapter), or call unet.fuse_lora() and unload it."
        )
    config = {**unet.config, "in_channels": 2 * channels}
    stock = UNet2DConditionModel.from_config(config)
    state = {name: tensor.detach() for name, tensor in unet.state_dict().items()}
    state["conv_in.weight"] = state["conv_in.weight"][:, : 2 * channels].clone()
    stock.load_state_dict(state)
    return nn.Module.to(stock, dtype=unet.dtype), style_weight


def _convolution(old: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    new = nn.Conv2d(
        weight.shape[1],
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        device=weight.device,
        dtype=weight.dtype,
    )
    new.weight.data.copy_(weight)
    if new.bias is not None and old.bias is not None:
        new.bias.data.copy_(old.bias.data)
    return new
