"""Trains the second embedded editor on rendered pairs of many simulators' looks.

``shards -> MixedSampler -> GeometryObjective -> run_loop() -> GeometryEditor.save()``

``python -m spie_robo.pretraining.geometry_training configs/pretrain/geometry_editor.yaml``
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from spie_robo.editor.geometry_editor import GeometryEditor, GeometryNetworks
from spie_robo.editor.geometry_unet import PATCH, GeometryUNet
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.editor.reference_tokens import PHOTO_SIZE, describe_patches
from spie_robo.errors import ConfigError
from spie_robo.pretraining.batches import draw_color_shift, random_zoom
from spie_robo.pretraining.config import LoopConfig
from spie_robo.pretraining.discriminator import Discriminator, deception_loss, discriminator_loss
from spie_robo.pretraining.geometry_preview import held_out_preview
from spie_robo.pretraining.images import add_noise
from spie_robo.pretraining.loop import Progress, run_loop
from spie_robo.pretraining.mixed_shards import MixedBatch, MixedShards
from spie_robo.pretraining.perceptual import perceptual_loss, pyramid

_FIT_PAIRS = 160


def _default_optimizer() -> LoopConfig:
    return LoopConfig(steps=40_000, batch=8, learning_rate=3e-4, warmup=200, ema=0.999)


@dataclass(frozen=True)
class GeometryTrainingConfig:
    """Settings of the training.

    Attributes:
        pairs: Folder of the shards; shards that come while training runs are read too.
        out: Checkpoints, grids and the exported editor go here.
        shards: Number of shards there will be at most.
        held_out_shards: The first of them, which no step sees.
        widths: Channels of the network at each level; see ``GeometryUNet``.
        layers: Residual blocks a level.
        token_dim: Width of the photos' tokens.
        latent_channels: Principal components kept of each 8x8 patch.
        most_photos: A step's frames see one to this many photos.
        drop_geometry: Share of frames whose geometry the network does not see.
        pixel: Weight of the mean absolute difference of pixels.
        perceptual: Weight of the perceptual loss.
        adversarial: Weight of the adversarial loss.
        adversarial_from: Step from which it counts.
        refresh_every: Steps after which new shards are looked for.
        threads: Number of torch's threads.
        seed: Seed of weights and batches.
        optimizer: Steps, batch size, learning rate.
    """

    pairs: str = "runs/mixed_pairs"
    out: str = "runs/geometry_editor"
    shards: int = 400
    held_out_shards: int = 2
    widths: tuple[int, ...] = (128, 224, 320)
    layers: int = 2
    token_dim: int = 224
    latent_channels: int = 48
    most_photos: int = 3
    drop_geometry: float = 0.35
    pixel: float = 1.0
    perceptual: float = 0.3
    adversarial: float = 0.01
    adversarial_from: int = 3000
    refresh_every: int = 100
    threads: int = 1
    seed: int = 0
    optimizer: LoopConfig = field(default_factory=_default_optimizer)

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.held_out_shards < self.shards:
            raise ConfigError(
                f"held_out_shards: expected 1 to {self.shards - 1}, got {self.held_out_shards}."
            )
        if not 1 <= self.most_photos <= 4:
            raise ConfigError(f"most_photos: expected 1 to 4, got {self.most_photos}.")
        if not 0 <= self.drop_geometry <= 1:
            raise ConfigError(f"drop_geometry: expected 0 to 1, got {self.drop_geometry}.")


@final
class MixedSampler:
    """Draws augmented batches; everything about one comes from its generator and what is there.

    Args:
        shards: The pairs.
        config: Photos, dropout, and how often to look for more.
    """

    def __init__(self, shards: MixedShards, config: GeometryTrainingConfig) -> None:
        """Start with what is there."""
        self._shards, self._config = shards, config
        self._drawn = 0

    def sample(self, count: int, generator: torch.Generator) -> MixedBatch:
        """Draw a batch: mirrored, under one random colour shift, geometry dropped at random."""
        if self._drawn % self._config.refresh_every == 0:
            self._shards.refresh()
        self._drawn += 1
        rows = torch.randint(len(self._shards), (count,), generator=generator)
        photos = int(torch.randint(1, self._config.most_photos + 1, (), generator=generator))
        batch = self._shards.batch(rows, [self._choose(row, photos, generator) for row in rows])
        return augment(batch, self._config.drop_geometry, generator)

    def _choose(self, row: Tensor, photos: int, generator: torch.Generator) -> list[int]:
        others = self._shards.others_of_style(int(row))
        picks = torch.randint(len(others), (photos,), generator=generator)
        return [int(others[pick]) for pick in picks]


def augment(batch: MixedBatch, drop_geometry: float, generator: torch.Generator) -> MixedBatch:
    """A batch with mirrored frames, shifted colours, noise, zoomed photos, geometry dropped."""
    count, photos = batch.references.shape[:2]
    mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    signs = torch.ones(1, batch.geometry.shape[1], 1, 1)
    signs[:, 2] = -1  # the normal's x
    inputs, targets = (
        torch.where(mirrored, images.flip(-1), images) for images in (batch.inputs, batch.targets)
    )
    geometry = torch.where(mirrored, batch.geometry.flip(-1) * signs, batch.geometry)
    classes = torch.where(mirrored[:, 0], batch.classes.flip(-1), batch.classes)
    # The same colour shift on both, or the photos would lie about the target.
    gain, offset = draw_color_shift(count, generator, strength=0.12)
    targets = (targets * gain + offset).clamp(-1, 1)
    references = (batch.references * gain[:, None] + offset[:, None]).clamp(-1, 1)
    flat = random_zoom(references.flatten(0, 1), generator)
    flat = add_noise(flat, 0.03, generator, share=0.7)
    keep = torch.rand(count, 1, 1, 1, generator=generator) >= drop_geometry
    return MixedBatch(
        inputs=add_noise(inputs, 0.01, generator, share=0.3),
        targets=targets,
        geometry=geometry * keep,
        classes=classes,
        references=flat.reshape(count, photos, *flat.shape[1:]),
        rows=batch.rows,
    )


@final
class _TrainedParts(nn.Module):
    """The loop trains this module."""

    def __init__(self, unet: GeometryUNet, discriminator: Discriminator) -> None:
        super().__init__()
        self.unet, self.discriminator = unet, discriminator


@final
class GeometryObjective:
    """Pixels, features and a discriminator's opinion of one batch.

    ``L = pixel |edit - target| + perceptual d(edit, target) - adversarial D(edit, photo) + L_D``

    Args:
        networks: The editor in training.
        discriminator: Trained by the same loss, on the opposite side.
        sampler: Where batches come from.
        config: Weights.
        step: Steps done before.
    """

    def __init__(
        self,
        networks: GeometryNetworks,
        discriminator: Discriminator,
        sampler: MixedSampler,
        config: GeometryTrainingConfig,
        step: int = 0,
    ) -> None:
        """Keep the parts."""
        self._networks, self._discriminator = networks, discriminator
        self._sampler, self._config = sampler, config
        self._steps = itertools.count(step)

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw one batch; returns the weighted sum of the losses, and each of them."""
        config = self._config
        sharpen = next(self._steps) >= config.adversarial_from and config.adversarial > 0
        with torch.autocast("cpu", torch.bfloat16, enabled=config.optimizer.bfloat16):
            batch = self._sampler.sample(config.optimizer.batch, generator)
            edits = edit_batch(self._networks, batch, generator).float()
            features = pyramid(edits)
            with torch.no_grad():
                wanted = pyramid(batch.targets)
            losses = {
                "pixel": (edits - batch.targets).abs().mean(),
                "perceptual": perceptual_loss(
                    [level.float() for level in features], [level.float() for level in wanted]
                ).mean(),
            }
            weights = {"pixel": config.pixel, "perceptual": config.perceptual}
            if sharpen:
                with torch.no_grad():
                    photos = pyramid(batch.references[:, 0])
                losses |= self._opinions(features, wanted, photos)
                weights |= {"deception": config.adversarial, "discriminator": 1.0}
        total = torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()
        return total, {name: float(loss.detach()) for name, loss in losses.items()}

    def _opinions(
        self, edits: list[Tensor], targets: list[Tensor], photos: list[Tensor]
    ) -> dict[str, Tensor]:
        with self._discriminator.frozen():
            deception = deception_loss(self._discriminator(edits, photos)).mean()
        judgement = discriminator_loss(
            self._discriminator(targets, photos),
            self._discriminator([level.detach() for level in edits], photos),
        )
        return {"deception": deception, "discriminator": judgement}


def edit_batch(networks: GeometryNetworks, batch: MixedBatch, generator: torch.Generator) -> Tensor:
    """Edits (B, 3, H, W) of a batch, differentiable in the networks."""
    count = len(batch.inputs)
    flat = batch.references.flatten(0, 1)
    with torch.autocast("cpu", enabled=False):
        if flat.shape[-1] != PHOTO_SIZE:
            flat = nn.functional.interpolate(flat, (PHOTO_SIZE, PHOTO_SIZE), mode="bilinear")
        patches = describe_patches(networks.vae, flat)
    patches = patches.reshape(count, -1, patches.shape[-1])
    height, width = (side // PATCH for side in batch.inputs.shape[-2:])
    shape = (count, networks.unet.config.noise_channels, height, width)
    noise = torch.randn(shape, generator=generator)
    return networks.paint(batch.inputs, batch.geometry, patches, noise)


def fit_patches(shards: MixedShards, config: GeometryTrainingConfig) -> PatchAutoencoder:
    """The linear autoencoder of the first pairs' frames and photos."""
    rows = torch.linspace(0, len(shards) - 1, min(_FIT_PAIRS, len(shards))).long()
    batch = shards.batch(rows, [[int(row)] for row in rows])
    images = torch.cat([batch.inputs, batch.targets])
    vae: PatchAutoencoder = PatchAutoencoder.fit(images, config.latent_channels, PATCH)
    vae.requires_grad_(False)
    vae.eval()
    return vae


def train_geometry_editor(config: GeometryTrainingConfig) -> GeometryEditor:
    """Train, or go on where it stopped; leaves the editor in ``out/editor``."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    shards = MixedShards(config.pairs, range(config.held_out_shards, config.shards))
    held_out = MixedShards(config.pairs, range(config.held_out_shards))
    networks = GeometryNetworks(
        GeometryUNet(
            latent_channels=config.latent_channels,
            widths=config.widths,
            layers=config.layers,
            token_dim=config.token_dim,
        ),
        _kept_autoencoder(out / "vae", shards, config),
    )
    model = _TrainedParts(networks.unet, Discriminator())
    sampler = MixedSampler(shards, config)
    done = _steps_done(out)
    objective = GeometryObjective(networks, model.discriminator, sampler, config, done)

    def report(_: nn.Module, progress: Progress) -> None:
        line = held_out_preview(networks, held_out, out / f"grid_{progress.step:06d}.png")
        print(f"step {progress.step}, {len(shards)} pairs, {progress.seconds:.0f} s: {line}")
        sys.stdout.flush()
        _export(networks, held_out, out / "editor")

    model.train()
    run_loop(model, objective, config.optimizer, out, config.seed, report)
    model.eval()
    return _export(networks, held_out, out / "editor")


def _kept_autoencoder(
    folder: Path, shards: MixedShards, config: GeometryTrainingConfig
) -> PatchAutoencoder:
    """Fitted once: shards that come later must not change what latents mean."""
    if not folder.is_dir():
        staged = folder.with_name("vae.partial")
        fit_patches(shards, config).save_pretrained(staged)
        os.replace(staged, folder)
    vae: PatchAutoencoder = PatchAutoencoder.from_pretrained(folder, local_files_only=True)
    vae.requires_grad_(False)
    vae.eval()
    return vae


def _steps_done(out: Path) -> int:
    from safetensors import safe_open

    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def _export(networks: GeometryNetworks, held_out: MixedShards, folder: Path) -> GeometryEditor:
    """The editor as a folder, replaced as a whole; its own photos are of one held-out lab."""
    rows = [0, *held_out.others_of_style(0)[:2].tolist()]
    photos = torch.stack([held_out.rgb("target", row) for row in rows])
    patches = describe_patches(networks.vae, photos).flatten(0, 1)
    editor = GeometryEditor(networks, str(folder), patches, photos.shape[-1])
    staged = folder.with_name("editor.partial")
    shutil.rmtree(staged, ignore_errors=True)
    editor.save(staged)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(staged, folder)
    return editor


def _main() -> None:
    """``python -m spie_robo.pretraining.geometry_training CONFIG.yaml``."""
    from spie_robo.settings.yaml_files import load_config

    train_geometry_editor(load_config(GeometryTrainingConfig, sys.argv[1]))


if __name__ == "__main__":
    _main()
