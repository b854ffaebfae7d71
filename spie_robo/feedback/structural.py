"""Compute the structural score: the difference of the edit's depth to the scene's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.errors import FrameError
from spie_robo.feedback.config import FeedbackConfig, StructureKind
from spie_robo.feedback.judges.depth import DepthJudge, DepthScale
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.guard.relative_depth import normalised_depth
from spie_robo.types import RGB, Frame

DepthMap: TypeAlias = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class StructuralScore:
    """``L_struct``: mean absolute difference of two depth maps; lower is better.

    With D(.) the judge's map and n(.) a map minus its median, divided by its mean absolute
    deviation:

    - ``paper``: ``mean |D(edit) - D(input)|``, as in SPIE;
    - ``monocular``: ``mean |n(D(edit)) - n(D(input))|``, as relative depth has no scale;
    - ``simulator``: ``mean |n(D(edit)) - n(truth)|``, with the frame's own depth on the judge's
      scale, over the pixels where it is known.

    Attributes:
        judge: Judge of depth.
        kind: Kind of the difference.
        scale: Scale of the judge's maps, which the true depth is converted to.
    """

    judge: DepthJudge
    kind: StructureKind = "simulator"
    scale: DepthScale = "log"

    def score(self, inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]]) -> Tensor:
        """Score the K edits of each input; the map of an input is computed once.

        Args:
            inputs: N inputs.
            edits: K edits of each input, of the size of its frame.

        Returns:
            float32, (N, K), on the CPU; NaN where a predicted map is not finite.

        Raises:
            FrameError: If kind is ``simulator`` and a frame has no known depth.
        """
        # Go input by input: a few maps stay in memory, however large the epoch is.
        rows = [self._row(one.frame, group) for one, group in zip(inputs, edits, strict=True)]
        return torch.tensor(rows, dtype=torch.float32)

    def _row(self, frame: Frame, edits: Sequence[RGB]) -> list[float]:
        if self.kind == "simulator":
            maps = self.judge.depth(edits)
            truths = {m.shape: true_depth(frame, m.shape, self.scale) for m in maps}
            return [
                depth_difference(m, truth, valid)
                for m, (truth, valid) in ((m, truths[m.shape]) for m in maps)
            ]
        own, *maps = self.judge.depth([frame.rgb, *edits])
        if self.kind == "paper":
            return [raw_difference(m, own) for m in maps]
        return [depth_difference(m, own) for m in maps]


def resolve_structure(
    config: FeedbackConfig, frames: Sequence[Frame]
) -> tuple[FeedbackConfig, str]:
    """Choose for a data set whether edits are compared with the simulator's depth.

    Args:
        config: Settings of the scores.
        frames: All frames that will be scored.

    Returns:
        The settings, with structure ``monocular`` in place of ``simulator`` if a frame has no
        depth; and a note, empty if nothing changed.
    """
    without = sum(frame.geometry is None or frame.geometry.depth is None for frame in frames)
    if config.structure != "simulator" or not without:
        return config, ""
    return replace(config, structure="monocular"), (
        f"{without} of {len(frames)} frames have no depth: edits are compared with what the depth "
        "judge sees in the raw frames (monocular)."
    )


def raw_difference(edit: DepthMap, reference: DepthMap) -> float:
    """Return ``mean |edit - reference|`` of maps (H, W); NaN if one is not finite."""
    if not (np.isfinite(edit).all() and np.isfinite(reference).all()):
        return float("nan")
    return float(np.abs(edit - reference).mean())


def depth_difference(edit: DepthMap, reference: DepthMap, valid: Mask | None = None) -> float:
    """Return ``mean |n(edit) - n(reference)|``, n(x) = (x - median) / mean absolute deviation.

    Args:
        edit: float32, (H, W).
        reference: float32, (H, W).
        valid: bool, (H, W), the pixels that count for mean, median and deviation; None: all.

    Returns:
        A number from 0 on, without unit; NaN if a map is not finite where it counts.
    """
    first = edit.ravel() if valid is None else edit[valid]
    second = reference.ravel() if valid is None else reference[valid]
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    return float(np.abs(normalised_depth(first) - normalised_depth(second)).mean())


def true_depth(frame: Frame, shape: tuple[int, ...], scale: DepthScale) -> tuple[DepthMap, Mask]:
    """Return the simulator's depth on a judge's grid and scale, and where it is known.

    Args:
        frame: A frame with depth in metres.
        shape: (height, width) of the judge's maps.
        scale: ``log``: log(depth); ``inverse``: -1 / depth. Both grow with distance.

    Raises:
        FrameError: If the frame has no depth, or none that is finite and positive.
    """
    depth = None if frame.geometry is None else frame.geometry.depth
    if depth is None:
        raise FrameError(
            f"Camera {frame.camera!r}: structure 'simulator' compares edits with the simulator's "
            "depth, and this frame has none. Record depth, or set structure to 'monocular'."
        )
    # Use the nearest pixel: an average across a silhouette is a depth that no object has.
    resized = cv2.resize(depth, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    known = np.isfinite(resized) & (resized > 0)
    if not known.any():
        raise FrameError(
            f"Camera {frame.camera!r}: expected depth in metres above 0, got no such pixel. Check "
            "how the depth was recorded, or set structure to 'monocular'."
        )
    scaled = np.zeros(resized.shape, np.float32)
    scaled[known] = np.log(resized[known]) if scale == "log" else -1.0 / resized[known]
    return scaled, known
