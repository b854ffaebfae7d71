"""Edits as the finished editor will make them, on frames that training never sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import to_image, to_tensor
from spie_robo.editor.resolution import hold_detail
from spie_robo.editor.settings import EditorSettings
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.records import FeedbackInput
from spie_robo.training.inputs import TrainingData
from spie_robo.training.rollout import seeded
from spie_robo.types import RGB


@torch.no_grad()
def deployed_edits(
    pipeline: SpiePipeline, data: TrainingData, settings: EditorSettings, seed: int
) -> list[RGB]:
    """Edit all frames of ``data`` with the editor's own settings; frame i follows photo i mod P."""
    edits = []
    for index, frame in enumerate(data.frames):
        style = data.style_latents
        output = pipeline(
            to_tensor(frame.rgb)[None].to(pipeline.vae.dtype),
            [data.instruction],
            [seeded(seed, index)],
            style_latents=None if style is None else style[[index % len(style)]],
            guidance=settings.guidance,
            steps=settings.steps,
            eta=settings.eta,
            initial_noise=settings.initial_noise,
        )
        edits.append(hold_detail(to_image(output[0]), frame.rgb, settings.frame_detail))
    return edits


def mean_scores(
    feedback: FeedbackModel, data: TrainingData, edits: Sequence[RGB]
) -> dict[str, float]:
    """Mean structural and semantic score of :func:`deployed_edits`; lower is better."""
    photos = len(data.photos)
    judged = [
        FeedbackInput(
            frame,
            data.photos[i % photos],
            data.frame_regions[i],
            data.photo_regions[i % photos],
        )
        for i, frame in enumerate(data.frames)
    ]
    scores = feedback.score(judged, [[edit] for edit in edits])
    return {
        "preview_structural": float(scores.structural.nanmean()),
        "preview_semantic": float(scores.semantic.nanmean()),
    }


def grid(columns: Sequence[Sequence[RGB]]) -> RGB:
    """Images side by side: one row a frame, one column a method."""
    return np.hstack([np.vstack(list(column)) for column in columns])
