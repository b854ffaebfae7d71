"""Stage 2: the denoiser, its text encoder and the visual prompt."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from spie_robo.editor.conv_in import grow_conv_in
from spie_robo.editor.guidance import Branch, Guidance
from spie_robo.editor.noise_prediction import condition, predict_noise
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.visual_prompt import VisualPrompt
from spie_robo.pretraining.config import PretrainConfig, UnetConfig
from spie_robo.pretraining.instructions import (
    GENERIC_INSTRUCTIONS,
    build_text_encoder,
    build_tokenizer,
    choose_generic,
    style_instructions,
    tokenize,
)
from spie_robo.pretraining.latent_pairs import VARIANTS, LatentPairs, encode_pairs
from spie_robo.pretraining.loop import Progress, train
from spie_robo.pretraining.preview import preview

_TRAIN_TIMESTEPS = 1000
_NO_GUIDANCE = Guidance(1.0, 1.0, 1.0)


class _Trained(nn.Module):
    """The parts that this stage trains, as one module for the loop."""

    def __init__(self, pipeline: SpiePipeline) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.text_encoder = pipeline.text_encoder
        self.visual_prompt = pipeline.visual_prompt


def build_pipeline(
    vae: AutoencoderKL, config: UnetConfig, residual_mean: Tensor, residual_std: Tensor
) -> SpiePipeline:
    """An untrained editor around a finished VAE."""
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
        num_train_timesteps=_TRAIN_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
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
        image_latent_scale=float(1 / residual_std.mean()),
    )


def train_unet(config: PretrainConfig, vae: AutoencoderKL) -> tuple[SpiePipeline, Progress]:
    """Run the stage, or finish an interrupted one."""
    torch.manual_seed(config.seed + 1)
    folder = Path(config.out) / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    pairs = encode_pairs(
        vae, config.pairs.folder, config.training_shards, folder / "latents.safetensors", config.seed
    )
    pipeline = build_pipeline(vae, config.unet, *pairs.residual_statistics())
    model = _Trained(pipeline)
    model.train()
    pipeline.vae.requires_grad_(False)
    batches = _Batches(pipeline, pairs, config.unet)

    def report(_: nn.Module, progress: Progress) -> None:
        line = preview(pipeline, config, folder / f"preview_{progress.step:06d}.png")
        print(f"unet {progress.step}: {line}, {progress.seconds:.0f} s", flush=True)

    progress = train(model, batches.loss, config.unet.optimizer, folder, config.seed, report)
    model.eval()
    return pipeline, progress


class _Batches:
    """Draws batches and computes their denoising loss."""

    def __init__(self, pipeline: SpiePipeline, pairs: LatentPairs, config: UnetConfig) -> None:
        self._pipeline = pipeline
        self._pairs = pairs
        self._config = config
        styles, self._text_of_scene = pairs.style_ids.unique(return_inverse=True)
        self._style_tokens = tokenize(pipeline.tokenizer, style_instructions(styles))
        self._generic_tokens = tokenize(pipeline.tokenizer, list(GENERIC_INSTRUCTIONS))
        self._null_tokens = tokenize(pipeline.tokenizer, [""])
        mean = torch.tensor(pipeline.config.residual_mean).view(1, -1, 1, 1)
        std = torch.tensor(pipeline.config.residual_std).view(1, -1, 1, 1)
        self._mean, self._std = mean, std

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of the predicted velocity over one batch."""
        config, pipeline = self._config, self._pipeline
        count = config.optimizer.batch
        scenes = torch.randint(len(self._pairs), (count,), generator=generator)
        variants = torch.randint(VARIANTS, (count,), generator=generator)
        partners = self._pairs.partners(scenes, generator)
        inputs = self._pairs.inputs[variants, scenes].float()
        clean = (self._pairs.targets[variants, scenes].float() - inputs - self._mean) / self._std
        references = self._pairs.references[variants, partners].float()
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.randint(_TRAIN_TIMESTEPS, (count,), generator=generator)
        noisy = pipeline.scheduler.add_noise(clean, noise, timesteps)
        velocity = pipeline.scheduler.get_velocity(clean, noise, timesteps)
        scale = pipeline.config.image_latent_scale
        with torch.autocast("cpu", torch.bfloat16, enabled=config.optimizer.bfloat16):
            text, null = self._text_states(scenes, generator)
            conditioning = condition(
                pipeline.visual_prompt, inputs * scale, references * scale, text, null
            ).dropped(self._branches(count, generator))
            predicted = predict_noise(pipeline.unet, noisy, timesteps, conditioning, _NO_GUIDANCE)
        errors = functional.mse_loss(predicted.float(), velocity, reduction="none")
        errors = errors.mean(dim=(1, 2, 3))
        late = timesteps < _TRAIN_TIMESTEPS // 2
        metrics = {
            "low_noise": float(errors[late].mean().detach()) if late.any() else float("nan"),
            "high_noise": float(errors[~late].mean().detach()) if (~late).any() else float("nan"),
        }
        return errors.mean(), metrics

    def _text_states(
        self, scenes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        tokens = self._style_tokens[self._text_of_scene[scenes]]
        generic = torch.rand(len(scenes), generator=generator) < self._config.generic_text
        choice = choose_generic(len(scenes), generator)
        tokens = torch.where(generic[:, None], self._generic_tokens[choice], tokens)
        states = self._pipeline.text_encoder(torch.cat([tokens, self._null_tokens]))[0]
        return states[:-1], states[-1:].expand(len(scenes), -1, -1)

    def _branches(self, count: int, generator: torch.Generator) -> Tensor:
        config = self._config
        draw = torch.rand(count, generator=generator)
        branches = torch.full((count,), int(Branch.TEXT))
        branches[draw < config.drop_text + config.drop_style + config.drop_all] = Branch.STYLE
        branches[draw < config.drop_style + config.drop_all] = Branch.IMAGE
        branches[draw < config.drop_all] = Branch.UNCOND
        return branches
