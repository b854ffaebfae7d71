"""Stage 4: sharpness. The trained editor is refined against a perceptual and an adversarial loss.

A squared error asks for the mean of all pictures that could be right, and that is a blur: no grain
of the wood, no speckle of the stone. Here the predicted ``x0`` is decoded (the autoencoder is
linear, so that costs nothing) and compared as a picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from spie_robo.editor.latents import decode_target
from spie_robo.editor.noise_prediction import predict_noise
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.errors import ConfigError
from spie_robo.pretraining.batches import PairSampler
from spie_robo.pretraining.config import PretrainConfig, RefinementConfig
from spie_robo.pretraining.discriminator import Discriminator, deception_loss, discriminator_loss
from spie_robo.pretraining.loop import Progress, run_loop
from spie_robo.pretraining.pairs import load_pairs
from spie_robo.pretraining.perceptual import perceptual_loss, pyramid
from spie_robo.pretraining.preview import preview
from spie_robo.pretraining.unet import (
    NO_GUIDANCE,
    TRAIN_TIMESTEPS,
    DenoisingBatch,
    DenoisingObjective,
)


class _Refined(nn.Module):
    """The parts that this stage trains."""

    def __init__(self, pipeline: SpiePipeline, discriminator: Discriminator) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.text_encoder = pipeline.text_encoder
        self.visual_prompt = pipeline.visual_prompt
        self.discriminator = discriminator


def refine(config: PretrainConfig, pipeline: SpiePipeline) -> Progress:
    """Run the stage on a trained pipeline, in place, or finish an interrupted one.

    Raises:
        ConfigError: If the pipeline does not predict the clean sample.
    """
    if pipeline.scheduler.config.prediction_type != "sample":
        raise ConfigError("Refinement decodes the prediction: it needs unet.prediction: sample.")
    torch.manual_seed(config.seed)
    folder = Path(config.out) / "refine"
    folder.mkdir(parents=True, exist_ok=True)
    pairs = load_pairs(config.pairs.folder, config.training_shards)
    sampler = PairSampler(pairs, config.pairs.scenes_per_style)
    denoising = DenoisingObjective(pipeline, sampler, pairs["style_id"], config.unet)
    model = _Refined(pipeline, Discriminator())
    objective = RefinementObjective(pipeline, model.discriminator, denoising, config.refinement)

    def report(_: nn.Module, progress: Progress) -> None:
        line = preview(pipeline, config, folder / f"preview_{progress.step:06d}.png")
        print(f"refine {progress.step}: {line}, {progress.seconds:.0f} s", flush=True)

    model.train()
    optimizer = config.refinement.optimizer
    progress = run_loop(model, objective, optimizer, folder, config.seed, report)
    model.eval()
    return progress


class RefinementObjective:
    """Latent, perceptual and adversarial loss of the predicted ``x0``, and the discriminator's.

    Args:
        pipeline: The editor in training.
        discriminator: Trained by the same loss, on the opposite side.
        denoising: Draws batches and weighs latent errors.
        config: Weights and noise.
    """

    def __init__(
        self,
        pipeline: SpiePipeline,
        discriminator: Discriminator,
        denoising: DenoisingObjective,
        config: RefinementConfig,
    ) -> None:
        """Keep the parts."""
        self._pipeline, self._discriminator = pipeline, discriminator
        self._denoising, self._config = denoising, config

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw one batch; returns the sum of the losses, and each of them."""
        config = self._config
        with torch.autocast("cpu", torch.bfloat16, enabled=config.optimizer.bfloat16):
            batch = self._denoising.draw(config.optimizer.batch, generator)
            noisy, timesteps = self._noised(batch.clean, generator)
            predicted = predict_noise(
                self._pipeline.unet, noisy, timesteps, batch.conditioning, NO_GUIDANCE
            ).float()
            edits = pyramid(self._decoded(predicted, batch))
            with torch.no_grad():
                targets = pyramid(self._decoded(batch.clean, batch))
                photos = pyramid(batch.references)
            with self._discriminator.frozen():
                deception = deception_loss(self._discriminator(edits, photos)).mean()
            judgement = discriminator_loss(
                self._discriminator(targets, photos),
                self._discriminator([level.detach() for level in edits], photos),
            )
        losses = {
            "latent": self._denoising.weighted_errors(predicted, batch.clean).mean(),
            "perceptual": perceptual_loss(
                [level.float() for level in edits], [level.float() for level in targets]
            ).mean(),
            "deception": deception.float(),
            "discriminator": judgement.float(),
        }
        weights = {
            "latent": 1.0,
            "perceptual": config.perceptual,
            "deception": config.adversarial,
            "discriminator": 1.0,
        }
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return total, {name: float(loss.detach()) for name, loss in losses.items()}

    def _noised(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows at random points of sampling chains, and the timesteps (B,) of those points."""
        count, config = len(clean), self._config
        timesteps = torch.randint(TRAIN_TIMESTEPS, (count,), generator=generator)
        first = torch.rand(count, generator=generator) < config.first_step
        timesteps = torch.where(first, TRAIN_TIMESTEPS - 1, timesteps)
        low, high = config.noise
        scale = low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)
        noise = scale * torch.randn(clean.shape, generator=generator)
        return self._pipeline.scheduler.add_noise(clean, noise, timesteps), timesteps

    def _decoded(self, clean: Tensor, batch: DenoisingBatch) -> Tensor:
        pipeline = self._pipeline
        with torch.autocast("cpu", enabled=False):
            images = decode_target(
                pipeline.vae, clean.float(), batch.input_latents, pipeline.latent_spec
            )
        return images
