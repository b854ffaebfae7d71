"""Edits as the finished editor will make them, on frames that training never sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import cover, to_image, to_tensor
from spie_robo.editor.resolution import hold_detail
from spie_robo.editor.settings import EditorSettings
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.records import FeedbackInput
from spie_robo.training.inputs import TrainingData, frame_cameras
from spie_robo.training.rollout import seeded
from spie_robo.types import RGB, EditResult, Frame, Guard

ACCEPTED = "preview_accepted"
SEMANTIC = "preview_semantic"
FLOOR = "photos_apart"
"""The base's row has this: :func:`photo_floor`."""
MOST_LOST = 0.1
"""Share of a camera's edits that the guard may reject beyond those of the base, untold."""


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
    feedback: FeedbackModel,
    data: TrainingData,
    edits: Sequence[RGB],
    kept: Sequence[RGB] | None = None,
) -> dict[str, float]:
    """Mean structural and semantic score of :func:`deployed_edits`; lower is better.

    Args:
        feedback: The scores.
        data: What was edited.
        edits: One a frame.
        kept: What they should stay like outside their regions; None: the frames.
    """
    photos = len(data.photos)
    judged = [
        FeedbackInput(
            frame,
            data.photos[i % photos],
            data.frame_regions[i],
            data.photo_regions[i % photos],
            None if kept is None else kept[i],
        )
        for i, frame in enumerate(data.frames)
    ]
    scores = feedback.score(judged, [[edit] for edit in edits])
    return {
        "preview_structural": float(scores.structural.nanmean()),
        SEMANTIC: float(scores.semantic.nanmean()),
    }


def photo_floor(feedback: FeedbackModel, data: TrainingData) -> float | None:
    """What one of the photos scores against the others: no edit need come nearer.

    Returns:
        The mean semantic score over all ordered pairs; None if there is one photo only, if photos
        have masks (which the other photo of a pair would have to have too), or no finite score.
    """
    height, width = data.frames[0].rgb.shape[:2]
    photos = [cover(photo, height, width) for photo in data.photos]
    groups = [
        [photo for other, photo in enumerate(photos) if other != i] for i in range(len(photos))
    ]
    if len(photos) < 2 or any(region is not None for region in data.photo_regions):
        return None
    stand_in = Frame(photos[0], "photo")  # without a region its look is not used
    inputs = [FeedbackInput(stand_in, photo) for photo in data.photos]
    floor = float(feedback.semantic.score(inputs, groups).nanmean())
    return floor if math.isfinite(floor) else None


def closed_share(before: Mapping[str, float], row: Mapping[str, float]) -> float | None:
    """Share of the way from the base's semantic score to the floor; None if there is no floor."""
    gap = before[SEMANTIC] - before.get(FLOOR, math.nan)
    return (before[SEMANTIC] - row[SEMANTIC]) / gap if gap > 0 else None


def told_gap(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """:func:`closed_share` for people; empty if there is no floor."""
    share = closed_share(before, after)
    if share is None:
        return ""
    return f" ({share:.0%} of the way to {before[FLOOR]:.4f}, your photos among themselves)"


def accepted_shares(
    guard: Guard, frames: Sequence[Frame], edits: Sequence[RGB]
) -> dict[str, float]:
    """Share of edits that the guard accepts: ``preview_accepted``, and one a camera.

    No reward knows the guard: edits that win scores by inserting things show here.
    """
    results = [EditResult(edit, 0, "", "preview", 0) for edit in edits]
    accepted = [verdict.accepted for verdict in guard.judge_batch(frames, results)]
    shares = {ACCEPTED: float(np.mean(accepted))}
    cameras = frame_cameras(frames)
    for camera in sorted(set(cameras)):
        own = [was for was, of in zip(accepted, cameras, strict=True) if of == camera]
        shares[f"{ACCEPTED}/{camera}"] = float(np.mean(own))
    return shares


def told_acceptance(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """What :func:`accepted_shares` of base and policy say to people, with a way out if it fell."""
    line = f"the guard accepts {after[ACCEPTED]:.0%} of the edits (base: {before[ACCEPTED]:.0%})"
    fallen = [
        f"{key.removeprefix(ACCEPTED + '/')} {share:.0%}"
        for key, share in after.items()
        if key.startswith(ACCEPTED + "/") and share < before.get(key, 0) - MOST_LOST
    ]
    if not fallen:
        return line
    return (
        f"{line}. FEWER THAN BEFORE from camera {', '.join(fallen)}: rejected edits become raw "
        "frames. Look at logs/preview.png; train with photo_crops: 7 in the settings, fewer "
        "epochs, or only the cameras whose view the photos have (cameras)"
    )


def grid(columns: Sequence[Sequence[RGB]]) -> RGB:
    """Images side by side: one row a frame, one column a method."""
    return np.hstack([np.vstack(list(column)) for column in columns])
