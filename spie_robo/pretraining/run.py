"""``spie-robo pretrain``: pairs -> judge, autoencoder, UNet, refinement -> exported editor.

All of it is resumable.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.presets import PRESETS
from spie_robo.errors import ConfigError
from spie_robo.pretraining.autoencoder import fit_autoencoder, score_autoencoder
from spie_robo.pretraining.config import PretrainConfig
from spie_robo.pretraining.export import export
from spie_robo.pretraining.judge import train_judge
from spie_robo.pretraining.labs import LABS, encode_labs, photograph_labs
from spie_robo.pretraining.pairs import load_pairs, render_pairs
from spie_robo.pretraining.preview import preview
from spie_robo.pretraining.refine import refine
from spie_robo.pretraining.unet import train_unet

UNREFINED = "unrefined"


def pretrain(config: PretrainConfig) -> None:
    """Run a stage or all of them; what is finished is loaded instead of repeated.

    Args:
        config: The settings; ``config.stage`` says which stages to run.
    """
    torch.set_num_threads(config.threads)
    if config.stage == "labs":
        _make_labs(config)
        return
    render_pairs(config.pairs)
    if config.stage == "pairs":
        return
    if config.stage in ("judge", "all"):
        judge = train_judge(config.judge)
        print(f"{judge}: the geometry judge. Next: python benchmarks/guard_calibration.py --write")
    if config.stage == "judge":
        return
    unrefined = Path(config.out) / UNREFINED
    if config.stage != "refine":
        train_by_squared_error(config)
    if config.stage == "unet":
        return
    if not unrefined.is_dir():
        raise ConfigError(f"{unrefined} is missing: run the 'unet' stage first.")
    pipeline = SpiePipeline.from_pretrained(unrefined)
    pipeline.vae.requires_grad_(False)
    progress = refine(config, pipeline)
    figures = preview(pipeline, config, Path(config.out) / "preview.png")
    folder = export(pipeline, config, progress, figures)
    print(f"{folder}: {figures}. Next: spie-robo demo --editor {folder} --out demo")


def _make_labs(config: PretrainConfig) -> None:
    """The looks of ``embedded-labs``, for the exported editor or else for the one that ships."""
    out = Path(config.out)
    exported = out / "editor"
    pipeline = SpiePipeline.from_pretrained(exported if exported.is_dir() else PRESETS["embedded"])
    photos = photograph_labs(out / "labs")
    for folder in filter(None, (str(out / "labs"), config.export_to)):
        encode_labs(pipeline, photos, config.editing.resolution, Path(folder))
    print(f"{photos}: {len(LABS)} labs. Next: spie-robo convert IN OUT --references {photos}")


def train_by_squared_error(config: PretrainConfig) -> None:
    """The autoencoder and the denoiser; leaves a pipeline folder for the refinement."""
    autoencoder = fit_autoencoder(config).requires_grad_(False).eval()
    held_out = load_pairs(config.pairs.folder, config.judging_shards)
    for name in ("simulator", "twin"):
        score = score_autoencoder(autoencoder, torch.from_numpy(held_out[f"{name}_rgb"]))
        print(
            f"autoencoder, {name} frames: {score.psnr:.1f} dB, "
            f"gradients {score.gradient_ratio:.2f}",
            flush=True,
        )
    pipeline, _ = train_unet(config, autoencoder)
    folder = Path(config.out) / UNREFINED
    staged = folder.with_name(f"{UNREFINED}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    pipeline.save_pretrained(staged)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(staged, folder)
