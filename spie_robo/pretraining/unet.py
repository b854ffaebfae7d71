"""Stage 3: the denoiser, its text encoder and the visual prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.editor.conv_in import grow_conv_in
from spie_robo.editor.guidance import Branch, Guidance
from spie_robo.editor.latents import encode_image, to_target
from spie_robo.editor.noise_prediction import Conditioning, condition, predict_noise
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.visual_prompt import VisualPrompt
from spie_robo.pretraining.batches import PairSampler
from spie_robo.pretraining.config import PretrainConfig, UnetConfig
from spie_robo.pretraining.instructions import (
    GENERIC_INSTRUCTIONS,
    build_text_encoder,
    build_tokenizer,
    choose_generic,
    style_instructions,
    tokenize,
)
from spie_robo.pretraining.loop import Progress, run_loop
from spie_robo.pretraining.pairs import load_pairs
from spie_robo.pretraining.preview import preview

TRAIN_TIMESTEPS = 1000
NO_GUIDANCE = Guidance(1.0, 1.0, 1.0)
_STATISTICS_PAIRS = 256


class _Trained(nn.Module):
    """The parts that this stage trains, as one module for the loop."""

    def __init__(self, pipeline: SpiePipeline) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.text_encoder = pipeline.text_encoder
        self.visual_prompt = pipeline.visual_prompt


def build_pipeline(
    vae: PatchAutoencoder, config: UnetConfig, residual_mean: Tensor, residual_std: Tensor
) -> SpiePipeline:
    """An untrained editor around a finished autoencoder."""
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(tokenizer, config.text_dim)
    channels = vae.config.latent_channels
    attending = len(config.widths) - 1
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * channels,
        out_channels=channels,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        # Attention at full latent resolution costs more than all the rest and adds little.
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attending,
        up_block_types=("CrossAttnUpBlock2D",) * attending + ("UpBlock2D",),
        cross_attention_dim=config.text_dim,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    grow_conv_in(unet)
    nn.init.kaiming_uniform_(unet.conv_in.weight, a=5**0.5)
    scheduler = DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=config.prediction,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    return SpiePipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        visual_prompt=VisualPrompt.from_unet(unet),
        residual_latents=True,
        residual_mean=residual_mean.tolist(),
        residual_std=residual_std.tolist(),
    )


def train_unet(config: PretrainConfig, vae: PatchAutoencoder) -> tuple[SpiePipeline, Progress]:
    """Run the stage, or finish an interrupted one."""
    torch.manual_seed(config.seed)
    folder = Path(config.out) / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    pairs = load_pairs(config.pairs.folder, config.training_shards)
    sampler = PairSampler(pairs, config.pairs.scenes_per_style)
    pipeline = build_pipeline(vae, config.unet, *residual_statistics(vae, sampler))
    objective = DenoisingObjective(pipeline, sampler, pairs["style_id"], config.unet)

    def report(_: nn.Module, progress: Progress) -> None:
        line = preview(pipeline, config, folder / f"preview_{progress.step:06d}.png")
        print(f"unet {progress.step}: {line}, {progress.seconds:.0f} s", flush=True)

    model = _Trained(pipeline)
    model.train()
    progress = run_loop(model, objective, config.unet.optimizer, folder, config.seed, report)
    model.eval()
    return pipeline, progress


@torch.no_grad()
def residual_statistics(vae: PatchAutoencoder, sampler: PairSampler) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of the latents' difference, target minus input."""
    batch = sampler.sample(_STATISTICS_PAIRS, torch.Generator().manual_seed(0))
    residual = encode_image(vae, batch.targets) - encode_image(vae, batch.inputs)
    return residual.mean(dim=(0, 2, 3)), residual.std(dim=(0, 2, 3))


def prediction_target(
    scheduler: DDIMScheduler, clean: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Return what the UNet is to output for its scheduler, (B, C, h, w)."""
    targets: dict[str, Callable[[], Tensor]] = {
        "sample": lambda: clean,
        "epsilon": lambda: noise,
        "v_prediction": lambda: cast(Tensor, scheduler.get_velocity(clean, noise, timesteps)),
    }
    return targets[scheduler.config.prediction_type]()


@dataclass(frozen=True, eq=False)
class DenoisingBatch:
    """B rows of training data on their way to the UNet.

    Attributes:
        input_latents: (B, C, h, w), unscaled latents of the simulator's frames.
        clean: (B, C, h, w), the diffusion target ``x0``.
        references: (B, 3, H, W) in [-1, 1], the reference photos.
        conditioning: What the UNet is told, condition dropout applied.
    """

    input_latents: Tensor
    clean: Tensor
    references: Tensor
    conditioning: Conditioning


class DenoisingObjective:
    """Mean squared error of the prediction, with condition dropout.

    Args:
        pipeline: The editor in training.
        sampler: Where batches come from.
        style_ids: int (N,), the style of each of the sampler's rows.
        config: Batch size, dropout shares, channel weights.
    """

    def __init__(
        self,
        pipeline: SpiePipeline,
        sampler: PairSampler,
        style_ids: NDArray[np.generic],
        config: UnetConfig,
    ) -> None:
        """Tokenize every instruction once."""
        self._pipeline, self._sampler, self._config = pipeline, sampler, config
        styles, rows = np.unique(style_ids, return_inverse=True)
        self._text_of_row = torch.from_numpy(rows)
        self._style_tokens = tokenize(pipeline.tokenizer, style_instructions(styles.tolist()))
        self._generic_tokens = tokenize(pipeline.tokenizer, list(GENERIC_INSTRUCTIONS))
        self._null_tokens = tokenize(pipeline.tokenizer, [""])
        self._channel_weights = self._weigh_channels()

    def _weigh_channels(self) -> Tensor:
        """(1, C, 1, 1), mean 1: between equal weights and a channel's share of pixel energy."""
        std = torch.tensor(self._pipeline.config.residual_std).view(1, -1, 1, 1)
        energy = self._pipeline.vae.decoder.weight.detach().square().sum(dim=(1, 2, 3)).sqrt()
        weights: Tensor = (energy.view(1, -1, 1, 1) * std) ** self._config.energy_exponent
        return weights / weights.mean()

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw one batch; returns its loss, and the loss on lightly and heavily noised rows."""
        pipeline = self._pipeline
        with torch.autocast("cpu", torch.bfloat16, enabled=self._config.optimizer.bfloat16):
            batch = self.draw(self._config.optimizer.batch, generator)
            noise = torch.randn(batch.clean.shape, generator=generator)
            timesteps = torch.randint(TRAIN_TIMESTEPS, (len(noise),), generator=generator)
            noisy = pipeline.scheduler.add_noise(batch.clean, noise, timesteps)
            predicted = predict_noise(
                pipeline.unet, noisy, timesteps, batch.conditioning, NO_GUIDANCE
            )
        target = prediction_target(pipeline.scheduler, batch.clean, noise, timesteps)
        errors = self.weighted_errors(predicted.float(), target)
        light = (timesteps < TRAIN_TIMESTEPS // 2).float()
        metrics = {
            "light_noise": float((errors.detach() * light).sum() / light.sum().clamp(min=1)),
            "heavy_noise": float(
                (errors.detach() * (1 - light)).sum() / (1 - light).sum().clamp(min=1)
            ),
        }
        return errors.mean(), metrics

    def draw(self, count: int, generator: torch.Generator) -> DenoisingBatch:
        """Draw ``count`` rows, encode them, and drop some of their conditions."""
        pipeline = self._pipeline
        batch = self._sampler.sample(count, generator)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            inputs, targets, references = (
                encode_image(pipeline.vae, images)
                for images in (batch.inputs, batch.targets, batch.references)
            )
            clean = to_target(targets, inputs, pipeline.latent_spec)
        text, null = self._text_states(batch.rows, generator)
        conditioning = condition(pipeline.visual_prompt, inputs, references, text, null)
        conditioning = conditioning.dropped(self._branches(count, generator))
        return DenoisingBatch(inputs, clean, batch.references, conditioning)

    def weighted_errors(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Squared errors (B,) with the channel weights of the config; both (B, C, h, w)."""
        errors = functional.mse_loss(predicted, target, reduction="none")
        return (errors * self._channel_weights).mean(dim=(1, 2, 3))

    def _text_states(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = self._style_tokens[self._text_of_row[rows]]
        generic = torch.rand(len(rows), generator=generator) < self._config.generic_text
        choice = choose_generic(len(rows), generator)
        tokens = torch.where(generic[:, None], self._generic_tokens[choice], tokens)
        states = self._pipeline.text_encoder(torch.cat([tokens, self._null_tokens]))[0]
        return states[:-1], states[-1:].expand(len(rows), -1, -1)

    def _branches(self, count: int, generator: torch.Generator) -> Tensor:
        config = self._config
        draw = torch.rand(count, generator=generator)
        branches = torch.full((count,), int(Branch.TEXT))
        branches[draw < config.drop_text + config.drop_style + config.drop_all] = Branch.STYLE
        branches[draw < config.drop_style + config.drop_all] = Branch.IMAGE
        branches[draw < config.drop_all] = Branch.UNCOND
        return branches
