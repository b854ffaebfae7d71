"""Photos of labs that nobody has: the looks of the preset ``embedded-labs``.

``styles -> photos (path-traced) -> one folder -> references.safetensors``

The seed of an episode picks one photo of a set of references, so that with photos of many labs
every episode gets the look of one of them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image

from spie_robo.editor.photo_files import photo_files
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import LatentReferences, PhotoReferences, read_photo
from spie_robo.envs.tabletop_env import tabletop
from spie_robo.envs.twin import Style, TwinWrapper, sample_style

LABS = range(10)
"""Seeds of their styles: none that the embedded editor learnt from."""

PHOTOS = 5


def photograph(style: str | Style, folder: Path) -> None:
    """Take five photos of a twin's lab, as a user would of a real one.

    They are of Push scenes that no demonstration has. Nothing is done if the folder has them.

    Args:
        style: The look of the lab, or the name of one.
        folder: Receives ``photo_0.png`` to ``photo_4.png``, 256x256.
    """
    if len(list(folder.glob("*.png"))) == PHOTOS:
        return
    folder.mkdir(parents=True, exist_ok=True)
    inner = gymnasium.make("SpieRobo/Push-v0", width=256, height=256, distractors=3)
    env = TwinWrapper(inner, style, cameras=("front",), samples=16)
    env.action_space.seed(0)
    for number in range(PHOTOS):
        observation, _ = env.reset(seed=2_000_000 + number)
        for _ in range(3 * number):
            tabletop(env).advance(env.action_space.sample())
        observation = env.step(np.zeros(4, np.float32))[0]
        Image.fromarray(observation["front"]).save(folder / f"photo_{number}.png")
    env.close()


def photograph_labs(folder: Path) -> Path:
    """Take photos of every lab of :data:`LABS`.

    Args:
        folder: Receives a folder for each lab and ``together``, with the photos of all.

    Returns:
        ``folder / "together"``.
    """
    together = folder / "together"
    together.mkdir(parents=True, exist_ok=True)
    for style in map(sample_style, LABS):
        photograph(style, folder / style.name)
        for photo in (folder / style.name).glob("*.png"):
            shutil.copy(photo, together / f"{style.name}_{photo.name}")
    return together


def encode_labs(pipeline: SpiePipeline, photos: Path, size: int, folder: Path) -> None:
    """Write photos as an editor's own references.

    Args:
        pipeline: Whose autoencoder they are for.
        photos: Folder of the photos.
        size: Height and width that the editor works at, in pixels.
        folder: Receives ``references.safetensors``.
    """
    images = tuple(read_photo(file) for file in photo_files(photos))  # all, however many
    latents = PhotoReferences(images).latents(pipeline.vae, size, size)
    folder.mkdir(parents=True, exist_ok=True)
    LatentReferences(latents).save(folder)
