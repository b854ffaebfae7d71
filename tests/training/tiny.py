"""Tiny frames, photos, scores and trainers, for the tests and for the processes that they start.

No package: loaded by path with ``runpy``, also from ``processes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.settings import EditorSettings
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.records import FeedbackInput, Scores
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.feedback.structural import StructuralScore
from spie_robo.training.config import (
    AdapterConfig,
    NftConfig,
    OptimizerConfig,
    RolloutConfig,
    TrainConfig,
)
from spie_robo.training.inputs import TrainingData, gather_data
from spie_robo.training.setup import build_accelerator, build_chain
from spie_robo.training.trained_editor import TrainedEditor
from spie_robo.training.trainer import Trainer
from spie_robo.types import RGB, Frame, Geometry

SIDE = 16


def frames(count: int, side: int = SIDE, cube: Callable[[int], bool] = lambda i: True):
    """Grey tables with a red cube, unless ``cube(i)`` is False; camera ``i`` shows frame i."""
    result = []
    for i in range(count):
        rng = np.random.default_rng(i)
        image = rng.integers(100, 160, (side, side, 3), dtype=np.uint8)
        segmentation = np.zeros((side, side), np.int32)
        if cube(i):
            y, x = rng.integers(0, side // 2, 2)
            segmentation[y : y + side // 4, x : x + side // 4] = 1
            image[segmentation == 1] = (200, 40, 40)
        depth = np.linspace(1.5, 0.8, side, dtype=np.float32)[:, None].repeat(side, axis=1)
        geometry = Geometry(depth, segmentation, {0: "table", 1: "red cube"})
        result.append(Frame(image, str(i), geometry))
    return result


def photos(count: int, side: int = 64) -> tuple[RGB, ...]:
    """Brown noise of different shades."""
    shades = [np.random.default_rng(100 + i).integers(0, 60 + 60 * i, (side, side, 3))
              for i in range(count)]  # fmt: skip
    return tuple((shade * [1.0, 0.8, 0.5]).astype(np.uint8) for shade in shades)


class ColourFeedback:
    """Scores mean colours; edits of the frames of ``broken`` cameras have none."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = tuple(broken)

    def score(self, inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]]) -> Scores:
        structural = [[_change(edit, one.frame.rgb) for edit in group]
                      for one, group in zip(inputs, edits, strict=True)]  # fmt: skip
        semantic = [[_shade(edit, one.photo) for edit in group]
                    for one, group in zip(inputs, edits, strict=True)]  # fmt: skip
        scores = Scores(torch.tensor(structural), torch.tensor(semantic))
        for row, one in enumerate(inputs):
            if one.frame.camera in self.broken:
                scores.semantic[row, 0] = float("nan")
        return scores


def _change(edit: RGB, frame: RGB) -> float:
    return float(np.abs(edit.astype(float) - frame.astype(float)).mean() / 255)


def _shade(edit: RGB, photo: RGB) -> float:
    return float(np.abs(edit.mean(axis=(0, 1)) - photo.mean(axis=(0, 1))).mean() / 255)


class ShadeDepth:
    """Reads depth off the brightness."""

    def depth(self, images: Sequence[RGB]) -> list[NDArray[np.float32]]:
        return [self.depth_of(_tensor(image))[0].numpy() for image in images]

    def depth_of(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=1) / 255


class BlockPatches:
    """The mean colour of each 4x4 block is its feature."""

    def patches(self, images: Sequence[RGB]) -> list[torch.Tensor]:
        return [self.patches_of(_tensor(image))[0] for image in images]

    def patches_of(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 4).permute(0, 2, 3, 1)


def _tensor(image: RGB) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()


def differentiable_feedback() -> FeedbackModel:
    """Scores whose judges have gradients."""
    return FeedbackModel(StructuralScore(ShadeDepth(), "monocular"), SemanticScore(BlockPatches()))


EDITING = EditorSettings()
"""How a tiny editor edits."""


def settings(**changes: Any) -> TrainConfig:
    """A run of 4 inputs, 3 edits each, 3 steps; ``rollout__edits=2`` changes a nested setting."""
    config = TrainConfig(
        objective="spie",
        photo_crops=2,
        frames=6,
        preview=2,
        rollout=RolloutConfig(
            inputs=4, edits=3, steps=3, guidance=Guidance(1.5, 3.0, 7.5), batch_size=12
        ),
        feedback=FeedbackConfig(structure="monocular"),
        nft=NftConfig(draws=2),
        adapter=AdapterConfig(rank=2, alpha=2),
        optimizer=OptimizerConfig(learning_rate=1e-3, updates=1, batch_size=6),
    )
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        value = replace(getattr(config, part), **{inner: value}) if inner else value
        config = replace(config, **{part: value})
    return config


def data(pipeline: SpiePipeline, config: TrainConfig, count: int = 6) -> TrainingData:
    """``count`` frames and 2 photos."""
    return gather_data(
        pipeline,
        frames(count),
        photos(2),
        photo_regions=[None, None],
        feedback=config.feedback,
        segmenter=None,
        resolution=SIDE,
        instruction="a lab",
        use_references=config.use_references,
        photo_crops=config.photo_crops,
        seed=config.seed,
    )


def trainer(
    pipeline: SpiePipeline,
    config: TrainConfig,
    *,
    feedback: ColourFeedback | FeedbackModel | None = None,
    out: Path | None = None,
    write: Callable[[Path], None] | None = None,
) -> Trainer:
    """A trainer around a pipeline, which becomes the policy's."""
    gathered = data(pipeline, config)
    chain = build_chain(pipeline, config, EDITING)
    policy = TrainedEditor(pipeline, config.adapter, config.seed, config.gradient_checkpointing)
    if feedback is None:
        followed = config.objective == "draft"
        feedback = differentiable_feedback() if followed else ColourFeedback()
    return Trainer(policy, gathered, feedback, chain, config,
                   build_accelerator(config.precision), out, write)  # fmt: skip


@torch.no_grad()
def nudge(policy: TrainedEditor, size: float = 0.01) -> None:
    """Move all that trains at random, as an update would: of ``conv_in`` the style channels."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in policy.parameters().items():
        noise = size * torch.randn(parameter.shape, generator=generator)
        if name == "unet.conv_in.weight":
            noise[:, : 2 * parameter.shape[1] // 3] = 0
        parameter += noise


def gradients(trainer: Trainer, epoch: int = 0) -> dict[str, torch.Tensor]:
    """Run an epoch; the gradients that its last update found, before they were clipped."""
    found: dict[str, torch.Tensor] = {}
    clip = trainer._clip

    def catch() -> torch.Tensor:
        found.update({n: p.grad.clone() for n, p in trainer.policy.parameters().items()})
        return clip()

    trainer._clip = catch
    trainer.run_epoch(epoch)
    return found
