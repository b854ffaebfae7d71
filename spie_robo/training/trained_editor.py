"""Hold the policy and its reference in one network, with an adapter that is on or off."""

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
"""Name of the parameter of which only the style channels train."""


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of the weights that train.

    Attributes:
        rank: Rank r of the LoRA; the paper uses 8.
        alpha: Scale of the LoRA; the paper uses 8.
        targets: Ends of the names of the UNet's layers that get a LoRA.
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

    The reference policy is the same UNet with the LoRA off. The style channels and the visual
    prompt, a thousandth of the weights, train in place; their first values are kept for it.

    Args:
        pipeline: The base, which is changed in place.
        config: Settings of the weights that train.
        seed: Seed of the LoRA's initial weights, which change no output.
        gradient_checkpointing: Use less memory and more time.

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
            except ValueError as error:  # raised by peft for names that match no layer
                raise ConfigError(f"adapter.targets: {error}") from error
        if gradient_checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
        pipeline.visual_prompt.requires_grad_(config.visual_prompt)
        self._style_channels = style_weight_of(pipeline.unet).shape[1]
        if config.style_channels:
            self._train_style_channels()
        self._first = {name: p.detach().clone() for name, p in self._besides_lora().items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all trained parameters by name, in a fixed order."""
        named = [
            (f"{part}.{name}", parameter)
            for part in ("unet", "visual_prompt")
            for name, parameter in getattr(self.pipeline, part).named_parameters()
            if parameter.requires_grad
        ]
        return dict(named)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Make the pipeline the policy that training started from, inside the block.

        Use it only while no graph of the policy waits for its backward pass, because weights
        change in place.
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
        """Add noise to the weights that read the photo, inside the block, for exploration.

        The noise is on parameters (Plappert et al., arXiv 1706.01905): the style channels and the
        visual prompt, which decide the look of an edit. Noise in the latents, which seeds draw,
        changes little more than the grain of an edit.

        Args:
            strength: Deviation of the noise, relative to the root mean square of the trained part
                of each tensor.
            generator: CPU generator of the noise.
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
        torch.clear_autocast_cache()  # the cache holds the old values in lower precision

    def _train_style_channels(self) -> None:
        """Train only a slice of ``conv_in``, by a zero gradient for the rest.

        Without weight decay AdamW does not change an entry whose gradient was always zero.
        """
        weight = self.pipeline.unet.conv_in.weight.requires_grad_()

        def keep_style_channels(gradient: Tensor) -> Tensor:
            masked = gradient.clone()
            masked[:, : -self._style_channels] = 0
            return masked

        weight.register_hook(keep_style_channels)
