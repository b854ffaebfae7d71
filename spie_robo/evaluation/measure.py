"""Measure edits: one value a frame and metric, and the floors that photos of the lab reach.

``inputs + edits of each editor -> Judges -> {metric: values (frames,)} per editor``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.editor.references import cover
from spie_robo.evaluation.embeddings import (
    Clip,
    directional_similarity,
    input_similarity,
    style_similarity,
    text_similarity,
)
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.evaluation.preferences import PreferenceModel
from spie_robo.feedback.judges.patches import PatchJudge
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.feedback.semantic import SemanticScore, outside_error
from spie_robo.feedback.structural import StructuralScore
from spie_robo.types import RGB, EditResult, Frame, Guard

Values: TypeAlias = NDArray[np.float64]
"""One value a frame; NaN where it could not be measured."""


@final
@dataclass(frozen=True, eq=False)
class Judges:
    """All judges of an evaluation.

    Attributes:
        monocular: Structural score of the edit against the raw frame.
        simulator: Structural score against the simulator's depth, where frames have it.
        nearest: Semantic score by nearest patches.
        paper: Semantic score over all pairs of patches.
        guard: Guard that accepts or rejects edits.
        clip: Judge of text, direction and patches; None leaves them out.
        dino: Judge of patches; None leaves it out.
        dreamsim: Judge of patches; None leaves it out.
        preferences: Models of people's preferences.
    """

    monocular: StructuralScore
    simulator: StructuralScore
    nearest: SemanticScore
    paper: SemanticScore
    guard: Guard
    clip: Clip | None = None
    dino: PatchJudge | None = None
    dreamsim: PatchJudge | None = None
    preferences: tuple[PreferenceModel, ...] = ()

    @property
    def patch_judges(self) -> dict[str, PatchJudge]:
        """Judges that compare patches, by the first word of their metrics' keys."""
        judges = {"clip": self.clip, "dino": self.dino, "dreamsim": self.dreamsim}
        return {name: judge for name, judge in judges.items() if judge is not None}

    @property
    def read_text(self) -> bool:
        """True if a judge compares pictures with a text."""
        return self.clip is not None or bool(self.preferences)


def feedback_values(
    inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]], judges: Judges
) -> list[dict[str, Values]]:
    """Compute the training's own scores for all editors at once, judging each input once.

    Args:
        inputs: One input a frame.
        edits: For each input the edits of all editors.
        judges: Judges, of which the first four are used.

    Returns:
        For each editor one value a frame and metric.

    Raises:
        FrameError: If an edit has another size than its frame.
        ReferencePhotoError: If the region of a photo cannot be used.
    """
    against = np.full((len(inputs), len(edits[0])), np.nan)
    deep = [i for i, item in enumerate(inputs) if _has_depth(item.frame)]
    if deep:
        of_deep = [inputs[i] for i in deep], [edits[i] for i in deep]
        against[deep] = judges.simulator.score(*of_deep).numpy()
    columns: dict[str, Values] = {
        "structural_simulator": against,
        "structural_monocular": judges.monocular.score(inputs, edits).double().numpy(),
        "semantic_nearest": judges.nearest.score(inputs, edits).double().numpy(),
        "semantic_paper": judges.paper.score(inputs, edits).double().numpy(),
    }
    return [
        {key: values[:, editor] for key, values in columns.items()}
        for editor in range(len(edits[0]))
    ]


def image_values(
    inputs: Sequence[FeedbackInput],
    photos: Sequence[RGB],
    edits: Sequence[EditResult],
    judges: Judges,
    text: str,
    source_text: str,
) -> dict[str, Values]:
    """Compute the further metrics of one editor's edits.

    Args:
        inputs: One input a frame.
        photos: Reference photo of each input, cropped to the frame's size.
        edits: One edit a frame.
        judges: Judges to measure with.
        text: Description that the edits should match, for judges that read text.
        source_text: Description of the raw frames.

    Returns:
        One value a frame, by the key of each metric.
    """
    # Acceptance, sharpness and change outside the region need no further model.
    frames = [item.frame for item in inputs]
    raw, images = [frame.rgb for frame in frames], [edit.rgb for edit in edits]
    accepted = [verdict.accepted for verdict in judges.guard.judge_batch(frames, edits)]
    values = {
        "guard_acceptance": np.array(accepted, np.float64),
        "gradient_ratio": np.array(
            [gradient_ratio(a, b) for a, b in zip(images, raw, strict=True)]
        ),
    }
    regions = [item.frame_region for item in inputs]
    if any(region is not None for region in regions):
        values["outside_l2"] = np.array(
            [outside_l2(*each) for each in zip(images, raw, regions, strict=True)]
        )
    # The other metrics need the models that the user named.
    if judges.clip is not None:
        clip = judges.clip
        values["clip_text"] = text_similarity(clip, images, text)
        values["clip_direction"] = directional_similarity(clip, images, raw, text, source_text)
    for name, judge in judges.patch_judges.items():
        values[f"{name}_style"] = style_similarity(judge, images, photos)
        values[f"{name}_input"] = input_similarity(judge, images, raw)
    for model in judges.preferences:
        values[model.key] = np.array(model.score(images, text), np.float64)
    return values


def photo_floors(
    photos: Sequence[RGB],
    regions: Sequence[Mask | None],
    held_out: Sequence[RGB],
    judges: Judges,
) -> dict[str, float]:
    """Score other photos of the lab in place of edits: the floors that no edit need pass.

    Structural scores have no floor, because a photo shows another scene; compare them with the raw
    frames' score, which is the judge's own error.

    Args:
        photos: The reference photos.
        regions: Region mask of each photo; None: the whole photo.
        held_out: Other photos, cropped to the size of the frames.
        judges: Judges to measure with.

    Returns:
        Mean over all pairs of a held-out photo and a reference photo, by the key of the metric.
        Empty if photos have masks, because held-out ones have none and would be scored whole.
    """
    if any(region is not None for region in regions):
        return {}
    height, width = held_out[0].shape[:2]
    stand_in = Frame(held_out[0], "held-out photo")  # its look is not used without a region
    inputs = [FeedbackInput(stand_in, photo) for photo in photos]
    groups = [held_out] * len(inputs)
    floors = {
        "semantic_nearest": float(judges.nearest.score(inputs, groups).mean()),
        "semantic_paper": float(judges.paper.score(inputs, groups).mean()),
    }
    cropped = [cover(photo, height, width) for photo in photos]
    pairs = [(image, photo) for image in held_out for photo in cropped]
    for name, judge in judges.patch_judges.items():
        values = style_similarity(judge, [a for a, _ in pairs], [b for _, b in pairs])
        floors[f"{name}_style"] = float(values.mean())
    return floors


def outside_l2(image: RGB, raw: RGB, region: Mask | None) -> float:
    """Return the mean squared pixel difference outside the region, colours in 0..1.

    Args:
        image: The edit, uint8 (height, width, 3).
        raw: Its frame, uint8 (height, width, 3).
        region: bool, (height, width), the part that the edit should change.

    Returns:
        A number from 0 on; NaN without a region, or without pixels outside it.
    """
    if region is None or region.all():
        return float("nan")
    return outside_error(image, raw, region)


def _has_depth(frame: Frame) -> bool:
    return frame.geometry is not None and frame.geometry.depth is not None
