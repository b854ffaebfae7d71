"""Compute both scores of every edit with the judges that a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from spie_robo.errors import FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.depth import load_depth_judge
from spie_robo.feedback.judges.patches import load_patch_judge
from spie_robo.feedback.records import FeedbackInput, Scores
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.feedback.structural import StructuralScore
from spie_robo.types import RGB, check_image


@final
class FeedbackModel:
    """A model that scores edits by structure and by look.

    Example:
        >>> import numpy as np
        >>> from spie_robo.feedback import FeedbackConfig, FeedbackInput, build_feedback
        >>> from spie_robo.types import Frame
        >>> grey = np.full((64, 64, 3), 128, np.uint8)
        >>> model = build_feedback(FeedbackConfig(structure="monocular"))
        >>> scores = model.score([FeedbackInput(Frame(grey), photo=grey)], [[grey, grey]])
        >>> scores.structural.tolist()
        [[0.0, 0.0]]
    """

    def __init__(self, structural: StructuralScore, semantic: SemanticScore) -> None:
        """Join two scores."""
        self.structural = structural
        self.semantic = semantic

    def score(self, inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]]) -> Scores:
        """Score the K edits of each input; on a CPU an edit's scores depend on nothing else.

        Args:
            inputs: N inputs.
            edits: K edits of each input, uint8, of the size of its frame.

        Returns:
            (N, K) each, float32, on the CPU, lower is better; NaN where a judge fails.

        Raises:
            FrameError: If numbers or sizes do not fit, or a frame lacks geometry for a score.
            ReferencePhotoError: If the region of a photo cannot be used.
        """
        check_edits(inputs, edits)
        return Scores(self.structural.score(inputs, edits), self.semantic.score(inputs, edits))


def check_edits(inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]]) -> None:
    """Raise FrameError unless there are K edits of each input, of their frame's size."""
    if not inputs or len(inputs) != len(edits):
        raise FrameError(
            f"Expected a group of edits for each of at least one input, got {len(inputs)} inputs "
            f"and {len(edits)} groups."
        )
    sizes = sorted({len(group) for group in edits})
    if len(sizes) > 1 or sizes[0] == 0:
        raise FrameError(f"Expected the same number of edits of each input, got {sizes}.")
    for one, group in zip(inputs, edits, strict=True):
        for edit in group:
            check_image(edit, f"edit of camera {one.frame.camera!r}")
            if edit.shape != one.frame.rgb.shape:
                raise FrameError(
                    f"Edit of camera {one.frame.camera!r}: expected shape {one.frame.rgb.shape} "
                    f"like its frame, got {edit.shape}."
                )


def build_feedback(config: FeedbackConfig, device: str = "cpu") -> FeedbackModel:
    """Load the judges that a configuration names.

    Args:
        config: Settings of scores and judges.
        device: Device of the judges.

    Raises:
        ConfigError: If a judge is unknown, or its folder is incomplete.
        MissingExtraError: If a judge needs a package that is not installed.
    """
    depth = load_depth_judge(config.depth_judge, device)
    patches = load_patch_judge(config.patch_judge, device)
    return FeedbackModel(
        StructuralScore(depth, config.structure, depth.scale),
        SemanticScore(patches, config.semantic, config.rec_lambda),
    )
