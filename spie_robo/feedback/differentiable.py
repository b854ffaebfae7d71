"""Compute both scores with gradients to the edits, for objectives that follow the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from spie_robo.errors import ConfigError
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.judges.depth import DifferentiableDepth
from spie_robo.feedback.judges.patches import DifferentiablePatches
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.feedback.semantic import PhotoPatches, select
from spie_robo.feedback.structural import true_depth
from spie_robo.guard.relative_depth import SCALE_FLOOR
from spie_robo.types import RGB


@final
class DifferentiableFeedback:
    """The scores of a :class:`.feedback.FeedbackModel` as differentiable functions.

    They equal its scores up to the rounding of edits to bytes (tested).

    Args:
        feedback: Model with the judges, kinds of scores and weights.

    Raises:
        ConfigError: If a judge has no gradients.
    """

    def __init__(self, feedback: FeedbackModel) -> None:
        """Check the judges."""
        depth, patches = feedback.structural.judge, feedback.semantic.judge
        if not isinstance(depth, DifferentiableDepth):
            raise _without_gradients("depth_judge", depth)
        if not isinstance(patches, DifferentiablePatches):
            raise _without_gradients("patch_judge", patches)
        self._depth, self._patches = depth, patches
        self._structural, self._semantic = feedback.structural, feedback.semantic
        self._photos = PhotoPatches(feedback.semantic.judge)

    def score(self, inputs: Sequence[FeedbackInput], edits: Tensor) -> tuple[Tensor, Tensor]:
        """Score one edit of each input.

        Args:
            inputs: n inputs; an input may repeat.
            edits: (n, 3, H, W), pixels in 0..255, each of the size of its frame.

        Returns:
            Structural and semantic scores, (n,) each, lower is better; with gradients to
            ``edits``.

        Raises:
            FrameError: If structure is ``simulator`` and a frame has no known depth.
            ReferencePhotoError: If the region of a photo cannot be used.
        """
        maps, grids = self._depth.depth_of(edits), self._patches.patches_of(edits)
        structural = [self._structure(*row) for row in zip(inputs, maps, strict=True)]
        semantic = [self._look(*row) for row in zip(inputs, grids, edits, strict=True)]
        return torch.stack(structural), torch.stack(semantic)

    def _structure(self, one: FeedbackInput, depth: Tensor) -> Tensor:
        score = self._structural
        if score.kind == "simulator":
            truth, known = true_depth(one.frame, tuple(depth.shape), score.scale)
            valid = torch.from_numpy(known).to(depth.device)
            reference = torch.from_numpy(truth).to(depth.device)
            return (normalise(depth[valid]) - normalise(reference[valid])).abs().mean()
        with torch.no_grad():
            own = self._depth.depth_of(_pixels(one.frame.rgb).to(depth.device))[0]
        if score.kind == "paper":
            return (depth - own).abs().mean()
        return (normalise(depth) - normalise(own)).abs().mean()

    def _look(self, one: FeedbackInput, grid: Tensor, edit: Tensor) -> Tensor:
        score = self._semantic
        look = score.distance(select(grid, one.frame_region), self._photos.of(one))
        return look + score.rec_lambda * _outside_error(edit, one, one.frame_region)


def normalise(values: Tensor) -> Tensor:
    """Subtract the median and divide by the mean absolute deviation; differentiable."""
    centred = values - values.flatten().quantile(0.5)
    return centred / centred.abs().mean().clamp(min=SCALE_FLOOR)


def _outside_error(edit: Tensor, one: FeedbackInput, region: Mask | None) -> Tensor:
    """Return the mean squared error of the pixels outside a region, values in 0..1."""
    if region is None or region.all():
        return edit.new_zeros(())
    outside = torch.from_numpy(~region).to(edit.device)
    kept = _pixels(one.outside)[0].to(edit)
    return ((edit - kept)[:, outside] / 255).square().mean()


def _pixels(image: RGB) -> Tensor:
    """Return an image as float32 (1, 3, H, W), 0..255."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()


def _without_gradients(setting: str, judge: object) -> ConfigError:
    return ConfigError(
        f"{setting}: objective 'draft' follows the gradient of the scores, and "
        f"{type(judge).__name__} gives none. Use the embedded judges, Depth Anything V2 and "
        "DINOv2, or objective 'nft' or 'spie'."
    )
