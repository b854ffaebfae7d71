"""Edit frames that training never sees, as the finished editor will, and score the edits."""

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
from spie_robo.feedback.nearness import nearer, nearer_in_words
from spie_robo.feedback.records import FeedbackInput
from spie_robo.training.inputs import TrainingData, frame_cameras
from spie_robo.training.rollout import seeded
from spie_robo.types import RGB, EditResult, Frame, Guard

ACCEPTED = "preview_accepted"
SEMANTIC = "preview_semantic"
FLOOR = "photos_apart"
"""Key of :func:`photo_floor` in the base's row."""
MOST_LOST = 0.1
"""Share of a camera's edits that the guard may reject beyond those of the base without a note."""


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
    """Return the mean structural and semantic score of edits; lower is better.

    Args:
        feedback: Model that scores the edits.
        data: The data that was edited.
        edits: One edit a frame.
        kept: Targets of the edits outside their regions; None: the frames.
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
    """Return the mean score of each photo against the others: how far they are apart.

    Returns:
        The mean semantic score over all ordered pairs; None if there is only one photo, a photo
        has a mask (which the other photo of a pair would need too), or a score is not finite.
    """
    height, width = data.frames[0].rgb.shape[:2]
    photos = [cover(photo, height, width) for photo in data.photos]
    groups = [
        [photo for other, photo in enumerate(photos) if other != i] for i in range(len(photos))
    ]
    if len(photos) < 2 or any(region is not None for region in data.photo_regions):
        return None
    stand_in = Frame(photos[0], "photo")  # its look is not used, because there is no region
    inputs = [FeedbackInput(stand_in, photo) for photo in data.photos]
    floor = float(feedback.semantic.score(inputs, groups).nanmean())
    return floor if math.isfinite(floor) else None


def nearness(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return how much nearer to the photos the edits are than the base's, as text.

    Args:
        before: The base's row; :data:`FLOOR` of it is said too.
        after: The adapter's.
    """
    share = nearer_in_words(nearer(before[SEMANTIC], after[SEMANTIC]))
    apart = f" (two of them are {before[FLOOR]:.4f} apart)" if FLOOR in before else ""
    return f", {share} to your photos{apart}".replace("farther to", "farther from") if share else ""


def accepted_shares(
    guard: Guard, frames: Sequence[Frame], edits: Sequence[RGB]
) -> dict[str, float]:
    """Return the share of edits that the guard accepts: ``preview_accepted``, and one a camera.

    No reward uses the guard, so its verdicts reveal edits that win scores by inserting things.
    """
    results = [EditResult(edit, 0, "", "preview", 0) for edit in edits]
    accepted = [verdict.accepted for verdict in guard.judge_batch(frames, results)]
    shares = {ACCEPTED: float(np.mean(accepted))}
    cameras = frame_cameras(frames)
    for camera in sorted(set(cameras)):
        own = [was for was, of in zip(accepted, cameras, strict=True) if of == camera]
        shares[f"{ACCEPTED}/{camera}"] = float(np.mean(own))
    return shares


def acceptance_note(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return the accepted shares of base and policy as text, with a way out if one fell."""
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
    """Arrange images side by side: one row a frame, one column a method."""
    return np.hstack([np.vstack(list(column)) for column in columns])
