"""Stage 5: the trained parts become the folder that ``Editor.from_pretrained`` loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from spie_robo.editor.latents import encode_image
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import LatentReferences
from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.envs.twin import NAMED_STYLES, TwinRenderer
from spie_robo.errors import EditorError
from spie_robo.pretraining.config import PretrainConfig
from spie_robo.pretraining.images import to_unit
from spie_robo.pretraining.loop import Progress

LARGEST_BYTES = 40_000_000

_REFERENCE_SEED = 77
_REFERENCE_SAMPLES = 16


def export(
    pipeline: SpiePipeline, config: PretrainConfig, progress: Progress, figures: str
) -> Path:
    """Write the embedded editor: half-precision weights, settings, looks and a model card.

    Args:
        pipeline: The trained pipeline.
        config: What it was trained with.
        progress: Steps and seconds of the refinement.
        figures: Held-out figures, one line, for the card.

    Returns:
        The folder ``editor`` below ``config.out``; copied to ``config.export_to`` if given.

    Raises:
        EditorError: If the weights exceed 40 MB.
    """
    folder = Path(config.out) / "editor"
    staged = folder.with_name("editor.partial")
    shutil.rmtree(staged, ignore_errors=True)
    pipeline.save_pretrained(staged, dtype=torch.float16)
    bundled_looks(pipeline).save(staged)
    config.editing.save(staged)
    (staged / "README.md").write_text(_model_card(config, progress, figures))
    size = sum(path.stat().st_size for path in staged.rglob("*.safetensors"))
    if size > LARGEST_BYTES:
        raise EditorError(
            f"The exported weights take {size / 1e6:.1f} MB; at most {LARGEST_BYTES / 1e6:.0f} MB "
            "ship with the package. Choose smaller widths."
        )
    for target in filter(None, (str(folder), config.export_to)):
        _replace_folder(staged, Path(target))
    shutil.rmtree(staged)
    return folder


@torch.no_grad()
def bundled_looks(pipeline: SpiePipeline) -> LatentReferences:
    """One rendered photo of each named style, as latents: the references of last resort."""
    sampler, renderer = SceneSampler(wrist_share=0.0), TwinRenderer(samples=_REFERENCE_SAMPLES)
    photos = []
    for offset, style in enumerate(NAMED_STYLES.values()):
        scene = sampler.sample(_REFERENCE_SEED + offset)
        photos.append(torch.from_numpy(renderer.render(scene.state, "front", style)))
    sampler.close()
    return LatentReferences(encode_image(pipeline.vae, to_unit(torch.stack(photos))))


def _replace_folder(source: Path, target: Path) -> None:
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    if target.exists():
        shutil.rmtree(target)
    os.replace(fresh, target)


def _model_card(config: PretrainConfig, progress: Progress, figures: str) -> str:
    pairs = config.pairs
    frames = len(config.training_shards) * pairs.styles_per_shard * pairs.scenes_per_style
    styles = len(config.training_shards) * pairs.styles_per_shard
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: image-to-image
---

# spie_robo embedded editor

Makes a tabletop simulator's camera frames look like a photo of a lab. 128x128 native; runs on a
CPU. Load it with `spie_robo.Editor.from_pretrained("embedded")`.

- **Data**: {frames} frames of random PyBullet scenes and the same scenes path-traced by Mitsuba 3
  ({pairs.samples} samples, denoised by OIDN) in {styles} random styles, made by this project.
  {len(config.judging_shards) * pairs.styles_per_shard} further styles and their scenes are held
  out. No photograph was used.
- **Seeds**: training {config.seed}, styles from {pairs.first_seed}.
- **Training**: autoencoder in closed form; UNet with text encoder and visual prompt
  {config.unet.optimizer.steps} steps of {config.unet.optimizer.batch} by squared error, then
  {progress.step} steps of {config.refinement.optimizer.batch} with a perceptual and an adversarial
  loss on the features of EfficientNet-Lite0 ({progress.seconds / 60:.0f} min).
- **Held out** ({config.editing.steps} steps, another scene of the style as reference): {figures}.
- **Bundled looks**: `references.safetensors` holds latents of three rendered photos. Latents
  can be decoded back to pictures.
- **Limits**: it knows tables, walls, floors, a Franka Panda and simple objects. See
  `docs/embedded_model.md`.
"""
