"""Run the UNet in one function, for sampling, training and log-probabilities.

``(image latents, style latents, text) -> condition() -> Conditioning -> predict_noise()``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from spie_robo.editor.guidance import Branch, Guidance
from spie_robo.editor.visual_prompt import VisualPrompt

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Function from (scaled noisy latents (B, C, h, w), timestep) to model output (B, C, h, w)."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The inputs of the UNet besides the noisy latents; computed once an edit.

    Attributes:
        text: (B, T, D), states of the instruction.
        null_text: (B, T, D), states of the empty text.
        image_latents: (B, C, h, w), latents of the frames.
        prompt: (B, C, h, w), the visual prompt computed with ``text``.
        null_prompt: (B, C, h, w), the visual prompt computed with ``null_text``.
    """

    text: Tensor
    null_text: Tensor
    image_latents: Tensor
    prompt: Tensor
    null_prompt: Tensor

    def branch(self, branch: Branch) -> tuple[Tensor, Tensor, Tensor]:
        """Return text states, image latents and visual prompt of one guidance branch."""
        nothing = torch.zeros_like(self.image_latents)
        if branch == Branch.UNCOND:
            return self.null_text, nothing, nothing
        if branch == Branch.IMAGE:
            return self.null_text, self.image_latents, nothing
        if branch == Branch.STYLE:
            return self.null_text, self.image_latents, self.null_prompt
        return self.text, self.image_latents, self.prompt

    def dropped(self, branches: Tensor) -> Conditioning:
        """Reduce each row to one branch, as condition dropout in classifier-free training.

        Args:
            branches: (B,) int64, a :class:`Branch` per row.

        Returns:
            A conditioning whose ``TEXT`` branch is the chosen branch of each row.
        """
        columns = [self.branch(branch) for branch in Branch]
        rows = torch.arange(len(branches), device=branches.device)
        text, image, prompt = (
            torch.stack([column[part] for column in columns])[branches, rows] for part in range(3)
        )
        return Conditioning(text, self.null_text, image, prompt, self.null_prompt)


def condition(
    visual_prompt: VisualPrompt,
    image_latents: Tensor,
    style_latents: Tensor | None,
    text: Tensor,
    null_text: Tensor,
) -> Conditioning:
    """Compute the visual prompts of an edit.

    Args:
        visual_prompt: Network of the visual prompt.
        image_latents: (B, C, h, w), latents of the frames, scaled by :func:`latents.to_condition`.
        style_latents: (B, C, h, w), latents of the photos, scaled the same; None: no prompt.
        text: (B, T, D), states of the instructions.
        null_text: (B, T, D), states of the empty text.
    """
    if style_latents is None:
        nothing = torch.zeros_like(image_latents)
        return Conditioning(text, null_text, image_latents, nothing, nothing)
    return Conditioning(
        text=text,
        null_text=null_text,
        image_latents=image_latents,
        prompt=visual_prompt(style_latents, image_latents, text),
        null_prompt=visual_prompt(style_latents, image_latents, null_text),
    )


def predict_noise(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timestep: Tensor,
    conditioning: Conditioning,
    guidance: Guidance,
) -> Tensor:
    """Run the UNet once over all branches that have a weight, and combine them.

    Args:
        unet: UNet with 3C input channels.
        latents: (B, C, h, w), noisy latents, scaled for the scheduler.
        timestep: A scalar, or (B,), one a row.
        conditioning: Conditioning of the same B rows.
        guidance: Scales of the conditions; ``Guidance(1, 1, 1)`` is the plain conditional
            prediction that training uses.

    Returns:
        The model output (B, C, h, w): noise, velocity or sample, by the scheduler's
        ``prediction_type``.
    """
    branches = [conditioning.branch(branch) for branch in guidance.weights]
    text = torch.cat([text for text, _, _ in branches])
    images = torch.cat([image for _, image, _ in branches])
    prompts = torch.cat([prompt for _, _, prompt in branches])
    noisy = latents.repeat(len(branches), 1, 1, 1)
    if timestep.ndim:
        timestep = timestep.repeat(len(branches))
    inputs = torch.cat([noisy, images, prompts], dim=1)
    output = unet(inputs, timestep, encoder_hidden_states=text, return_dict=False)[0]
    return guidance.combine(cast(Tensor, output))


def denoiser(
    unet: UNet2DConditionModel, conditioning: Conditioning, guidance: Guidance
) -> Denoiser:
    """Return :func:`predict_noise` as a function of latents and timestep only."""

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        return predict_noise(unet, latents, timestep, conditioning, guidance)

    return predict
