"""The base that tests train, in memory and on disk, and the helpers of ``tiny.py``."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.settings import EditorSettings

_HELPERS = runpy.run_path(str(Path(__file__).with_name("tiny.py")))


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """What ``tiny.py`` defines."""
    return SimpleNamespace(**_HELPERS)


@pytest.fixture
def base(tiny_stock) -> Callable[..., SpiePipeline]:
    """``base(scheduler)``: a new pipeline, with the same weights each time."""

    def build(scheduler: str = "DDIMScheduler") -> SpiePipeline:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            pipeline = SpiePipeline.from_instruct_pix2pix(tiny_stock(scheduler))
            torch.nn.init.normal_(pipeline.unet.conv_in.weight[:, 8:], std=0.1)
        pipeline.visual_prompt.eval()
        return pipeline

    return build


@pytest.fixture
def base_folder(base, tmp_path: Path) -> Path:
    """A pipeline folder with settings of its own: 32 pixels, 2 steps."""
    folder = tmp_path / "base"
    base().save_pretrained(folder)
    EditorSettings(steps=2, resolution=32, guidance=Guidance(1.5, 3.0, 7.5)).save(folder)
    return folder


@pytest.fixture
def photo_folder(tiny, tmp_path: Path) -> Path:
    """Two photos as PNG files."""
    return _write(tmp_path / "photos", tiny.photos(2))


@pytest.fixture
def frame_folder(tiny, tmp_path: Path) -> Path:
    """Eight frames of 32x32 pixels as PNG files."""
    return _write(tmp_path / "frames", [frame.rgb for frame in tiny.frames(8, 32)])


def _write(folder: Path, images) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
    return folder
