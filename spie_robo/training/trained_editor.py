"""The editor in training, which is its own reference: one network, an adapter on or off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from peft import LoraConfig
from torch import Tensor, nn

from spie_robo.editor.conv_in import style_weight_of
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.errors import ConfigError

CONV_IN = "unet.conv_in.weight"
"""Of this parameter only the style channels train."""


@dataclass(frozen=True)
class AdapterConfig:
    """What trains.

    Attributes:
        rank: r of the LoRA; the paper uses 8.
        alpha: Its scale; the paper uses 8.
        targets: Layers of the UNet that get one, by the end of their names.
        style_channels: Train the style channels of ``conv_in``.
        visual_prompt: Train the visual prompt.
    """

    rank: int = 8
    alpha: int = 8
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    style_channels: bool = True
    visual_prompt: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.rank < 1 or self.alpha < 1 or not self.targets:
            raise ConfigError(
                f"adapter: expected rank and alpha >= 1 and some targets, got {self}."
            )


@final
class TrainedEditor:
    """A pipeline with a LoRA, trainable style channels and a trainable visual prompt.

    The reference policy is the same UNet with the LoRA off; of what changes besides the LoRA (the
    style channels and the visual prompt, a thousandth of the weights) the first values are kept.

    Args:
        pipeline: The base; it is changed in place.
        config: What trains.
        seed: Of the LoRA's start, which changes no output.
        gradient_checkpointing: Less memory for more time.

    Raises:
        ConfigError: If no layer of the UNet has a name of ``config.targets``.
    """

    def __init__(
        self,
        pipeline: SpiePipeline,
        config: AdapterConfig,
        seed: int = 0,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Add the adapter and freeze the rest."""
        self.pipeline = pipeline
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet, pipeline.visual_prompt):
            part.requires_grad_(False)
            part.eval()
        lora = LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                pipeline.unet.add_adapter(lora)
            except ValueError as error:  # peft's, for names that match nothing
                raise ConfigError(f"adapter.targets: {error}") from error
        if gradient_checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
        pipeline.visual_prompt.requires_grad_(config.visual_prompt)
        self._style_channels = style_weight_of(pipeline.unet).shape[1]
        if config.style_channels:
            self._train_style_channels()
        self._first = {name: p.detach().clone() for name, p in self._besides_lora().items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that trains, by name, in a fixed order."""
        named = [
            (f"{part}.{name}", parameter)
            for part in ("unet", "visual_prompt")
            for name, parameter in getattr(self.pipeline, part).named_parameters()
            if parameter.requires_grad
        ]
        return dict(named)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """While inside, the pipeline is the policy that training started from.

        Only where no graph of the policy waits for its backward pass: weights change in place.
        """
        current = {name: p.detach().clone() for name, p in self._besides_lora().items()}
        self._restore(self._first)
        self.pipeline.unet.disable_adapters()
        try:
            with torch.no_grad():
                yield
        finally:
            self.pipeline.unet.enable_adapters()
            self._restore(current)

    @contextmanager
    def perturbed(self, strength: float, generator: torch.Generator) -> Iterator[None]:
        """While inside, what is said about the photo is a little different, for exploration.

        Noise in the space of parameters (Plappert et al., arXiv 1706.01905): on the style channels
        and the visual prompt, where the look of an edit is decided. Noise in the latents, which
        seeds draw, changes little more than its grain.

        Args:
            strength: Deviation of the noise, relative to the root mean square of what
                trains of each tensor.
            generator: Source of randomness, on the CPU.
        """
        if strength == 0:
            yield
            return
        current = {name: p.detach().clone() for name, p in self._besides_lora().items()}
        with torch.no_grad():
            for name, parameter in self._besides_lora().items():
                trained = parameter[:, -self._style_channels :] if name == CONV_IN else parameter
                noise = torch.randn(trained.shape, generator=generator).to(trained)
                trained.add_(strength * trained.square().mean().sqrt() * noise)
        torch.clear_autocast_cache()
        try:
            yield
        finally:
            self._restore(current)

    def _besides_lora(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.parameters().items() if "lora_" not in name}

    @torch.no_grad()
    def _restore(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._besides_lora().items():
            parameter.copy_(values[name])
        torch.clear_autocast_cache()  # it holds the old values in lower precision

    def _train_style_channels(self) -> None:
        """Only a slice of ``conv_in`` trains: the gradient of the rest is zero.

        AdamW leaves an entry alone whose gradient was always zero, given no weight decay.
        """
        weight = self.pipeline.unet.conv_in.weight.requires_grad_()

        def keep_style_channels(gradient: Tensor) -> Tensor:
            masked = gradient.clone()
            masked[:, : -self._style_channels] = 0
            return masked

        weight.register_hook(keep_style_channels)
