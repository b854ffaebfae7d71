"""Settings of ``spie-robo pretrain``: one frozen dataclass a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError
from spie_robo.pretraining.judge import JudgeTrainingConfig
from spie_robo.pretraining.pairs import PairsConfig

Prediction = Literal["sample", "epsilon", "v_prediction"]


@dataclass(frozen=True)
class LoopConfig:
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
class AutoencoderConfig:
    """The linear autoencoder.

    Attributes:
        latent_channels: C.
        patch: Edge of a patch in pixels: the scale factor.
        shards: Number of training shards whose frames it is computed from.
    """

    latent_channels: int = 12
    patch: int = 4
    shards: int = 4


@dataclass(frozen=True)
class UnetConfig:
    """The denoiser, its text encoder and the visual prompt, trained together.

    Attributes:
        widths: Channels at each resolution; the first is also the visual prompt's inner width.
        layers: Residual blocks a resolution.
        text_dim: Width of the text encoder.
        prediction: What the UNet predicts. With the input frame at hand most of the residual is
            certain: predicting it (``sample``) leaves an undertrained model clean, where the
            velocity, which has to tell noise from signal at every step, leaves it grainy.
        drop_text: Share of rows trained without text (the ``STYLE`` branch).
        drop_style: Share of rows trained without text and photo (``IMAGE``).
        drop_all: Share of rows trained without anything (``UNCOND``).
        energy_exponent: How much more a latent channel counts that moves pixels more: 0 not at
            all (sharpest texture), 1 in proportion (best PSNR).
        generic_text: Share of rows whose instruction does not describe the style.
        optimizer: How it is trained.
    """

    widths: tuple[int, ...] = (64, 128, 224)
    layers: int = 1
    text_dim: int = 96
    prediction: Prediction = "sample"
    drop_text: float = 0.10
    drop_style: float = 0.05
    drop_all: float = 0.03
    energy_exponent: float = 0.5
    generic_text: float = 0.5
    optimizer: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=2400, batch=16, learning_rate=5e-4, warmup=200)
    )


@dataclass(frozen=True)
class RefinementConfig:
    """Training for sharpness, from the finished denoiser on; see :mod:`.refine`.

    Attributes:
        perceptual: Weight of the perceptual loss, beside the latent loss of weight 1. Its
            gradient at the prediction is 38 times as large as the latent loss's, for equal weights.
        adversarial: Weight of the adversarial loss; its gradient is 400 times as large.
        noise: Range of the standard deviation of the noise, as a share of the schedule's: the
            chain may start from less noise (:attr:`.EditorSettings.initial_noise`).
        first_step: Share of rows at the start of the chain, where everything is still open.
        optimizer: How it is trained; 0 steps are not possible, ``stage: unet`` leaves it out.
    """

    perceptual: float = 0.15
    adversarial: float = 0.008
    noise: tuple[float, float] = (0.0, 1.0)
    first_step: float = 0.5
    optimizer: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=1400, batch=16, learning_rate=3e-4, warmup=100)
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.perceptual < 0 or self.adversarial < 0 or not 0 <= self.first_step <= 1:
            raise ConfigError(
                "refinement: expected perceptual and adversarial >= 0, first_step 0 to 1, "
                f"got {self}."
            )
        if not 0 <= self.noise[0] <= self.noise[1] <= 1:
            raise ConfigError(
                f"refinement.noise: expected 0 <= low <= high <= 1, got {self.noise}."
            )


def _embedded_judge() -> JudgeTrainingConfig:
    return JudgeTrainingConfig(steps=3000)


def _embedded_settings() -> EditorSettings:
    return EditorSettings(
        instruction="make it look like a photo of the lab",
        steps=1,
        guidance=Guidance(1.0, 1.0, 1.0),
        initial_noise=0.3,
        frame_detail=0.2,
        resolution=128,
    )


@dataclass(frozen=True)
class PretrainConfig:
    """``spie-robo pretrain``: from nothing to the embedded weights.

    Attributes:
        out: Folder of checkpoints, logs and grids.
        stage: ``pairs`` renders them, ``judge`` then trains the guard's judge, ``unet`` the
            editor by squared error (exported to ``out/unrefined``), ``refine`` sharpens and
            exports that editor, ``all`` does all of these. A finished stage is not repeated.
            ``labs`` takes the photos of the preset ``embedded-labs``.
        export_to: A further folder that receives the finished editor, or the photos of ``labs``.
        editing: The settings that the exported editor comes with.
        held_out_shards: The first so many shards of pairs are for judging only.
        threads: CPU threads.
        seed: Seed of everything that is random.
        pairs: The rendered pairs.
        autoencoder: The autoencoder.
        unet: The denoiser.
        refinement: Its second training, for sharpness.
        judge: The guard's geometry judge; it reads the same pairs.
    """

    out: str = "runs/embedded"
    stage: str = "all"
    export_to: str | None = None
    editing: EditorSettings = field(default_factory=_embedded_settings)
    held_out_shards: int = 4
    threads: int = 2
    seed: int = 0
    pairs: PairsConfig = field(default_factory=PairsConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    judge: JudgeTrainingConfig = field(default_factory=_embedded_judge)

    def __post_init__(self) -> None:
        """Check what concerns several stages."""
        stages = ("all", "pairs", "judge", "unet", "refine", "labs")
        if self.stage not in stages:
            raise ConfigError(f"stage: expected one of {', '.join(stages)}; got {self.stage!r}.")
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
