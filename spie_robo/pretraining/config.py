"""Settings of ``spie-robo pretrain``: one frozen dataclass a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from spie_robo.errors import ConfigError
from spie_robo.pretraining.pairs import PairsConfig


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine decay to zero, and an average of the weights.

    Attributes:
        steps: Optimiser steps.
        batch: Images a step.
        learning_rate: Peak.
        warmup: Steps of the warm-up.
        weight_decay: AdamW's.
        ema: Decay of the exponential moving average whose weights are shipped.
        checkpoint_every: Steps between checkpoints.
        bfloat16: Run the network in bfloat16 autocast (a quarter faster on CPUs that have it).
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    checkpoint_every: int = 200
    bfloat16: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.steps < 1 or self.batch < 1 or self.checkpoint_every < 1:
            raise ConfigError(f"steps, batch, checkpoint_every: expected 1 or more, got {self}.")
        if not 0 < self.learning_rate < 1 or not 0 <= self.ema < 1:
            raise ConfigError(f"learning_rate, ema: expected 0..1, got {self}.")


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder.

    Attributes:
        latent_channels: C.
        shards: Number of training shards; crops of a few thousand frames are plenty.
        widths: Channels at full, half and quarter resolution.
        crop: Edge of the training crops in pixels.
        gradient_weight: Weight of the difference of image gradients, against blur.
        latent_noise: Noise on training latents, in units of their spread: the decoder learns to
            forgive the diffusion model's errors.
        kl_weight: Weight of the KL term.
        optimizer: How it is trained.
    """

    latent_channels: int = 16
    shards: int = 8
    widths: tuple[int, ...] = (32, 64, 96)
    crop: int = 64
    gradient_weight: float = 1.0
    latent_noise: float = 0.05
    kl_weight: float = 1e-6
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(steps=1800, batch=16, learning_rate=1.5e-3)
    )


@dataclass(frozen=True)
class UnetConfig:
    """The denoiser, its text encoder and the visual prompt, trained together.

    Attributes:
        widths: Channels at each resolution; the first is also the visual prompt's inner width.
        layers: Residual blocks a resolution.
        text_dim: Width of the text encoder.
        drop_text: Share of rows trained without text (the ``STYLE`` branch).
        drop_style: Share of rows trained without text and photo (``IMAGE``).
        drop_all: Share of rows trained without anything (``UNCOND``).
        generic_text: Share of rows whose instruction does not describe the style.
        optimizer: How it is trained.
    """

    widths: tuple[int, ...] = (64, 128, 224)
    layers: int = 1
    text_dim: int = 96
    drop_text: float = 0.10
    drop_style: float = 0.05
    drop_all: float = 0.03
    generic_text: float = 0.5
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(steps=8000, batch=16, learning_rate=4e-4)
    )


@dataclass(frozen=True)
class PretrainConfig:
    """``spie-robo pretrain``: from nothing to the embedded weights.

    Attributes:
        out: Folder of checkpoints, logs and grids.
        stage: Which stage to run; ``all`` runs them in order. A finished stage is not repeated.
        held_out_shards: The first so many shards of pairs are for judging only.
        threads: CPU threads.
        seed: Seed of everything that is random.
        pairs: The rendered pairs.
        vae: The autoencoder.
        unet: The denoiser.
    """

    out: str = "runs/embedded"
    stage: str = "all"
    held_out_shards: int = 4
    threads: int = 2
    seed: int = 0
    pairs: PairsConfig = field(default_factory=PairsConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)

    def __post_init__(self) -> None:
        """Check what concerns several stages."""
        if self.stage not in ("all", "pairs", "vae", "unet", "export"):
            raise ConfigError(
                f"stage: expected all, pairs, vae, unet or export, got {self.stage!r}."
            )
        if not 0 < self.held_out_shards < self.pairs.shards:
            raise ConfigError(
                f"held_out_shards: expected 1 to {self.pairs.shards - 1}, "
                f"got {self.held_out_shards}."
            )

    @property
    def training_shards(self) -> range:
        """Shards to train on."""
        return range(self.held_out_shards, self.pairs.shards)

    @property
    def judging_shards(self) -> range:
        """Shards whose styles and scenes no training sees."""
        return range(self.held_out_shards)
