"""Compute the semantic score: the distance of an edit's look to a photo's inside the region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.editor.references import cover
from spie_robo.errors import ReferencePhotoError
from spie_robo.feedback.config import SemanticKind
from spie_robo.feedback.judges.patches import PatchJudge
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.feedback.regions import cover_region, patch_region
from spie_robo.types import RGB


@final
@dataclass(frozen=True, eq=False)
class SemanticScore:
    """``L_sem``: distance of patch features to the photo's plus change outside; lower is better.

    With E the edit's patches in its region, R the photo's in its region, and
    ``d(p, q) = 1 - cos(p, q)``:

    - ``paper``: ``mean_{p in E, q in R} d(p, q)``;
    - ``nearest``: ``mean_{p in E} min_{q in R} d(p, q)``;

    plus ``rec_lambda * mean_{outside} (edit - frame)^2``, pixels in 0..1; an input's kept picture
    takes the place of the frame. Without a region that term is 0.

    Attributes:
        judge: Judge of patch features.
        kind: Kind of the distance.
        rec_lambda: Weight of the change outside the region.
    """

    judge: PatchJudge
    kind: SemanticKind = "nearest"
    rec_lambda: float = 0.5

    def score(self, inputs: Sequence[FeedbackInput], edits: Sequence[Sequence[RGB]]) -> Tensor:
        """Score the K edits of each input; features of a photo are computed once for all inputs.

        Args:
            inputs: N inputs.
            edits: K edits of each input, of the size of its frame.

        Returns:
            float32, (N, K), on the CPU; NaN where features are not finite.

        Raises:
            ReferencePhotoError: If the photo's region is lost when the photo is cropped to the
                shape of the frame.
        """
        photos = PhotoPatches(self.judge)
        rows = [
            self._row(one, photos.of(one), group) for one, group in zip(inputs, edits, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float32)

    def distance(self, edit: Tensor, reference: Tensor) -> Tensor:
        """Return the distance of an edit's patches (n, C) to a photo's (m, C), a scalar."""
        measure = nearest_distance if self.kind == "nearest" else mean_distance
        return measure(edit, reference)

    def _row(self, one: FeedbackInput, reference: Tensor, edits: Sequence[RGB]) -> list[float]:
        scores = []
        for edit, grid in zip(edits, self.judge.patches(edits), strict=True):
            look = self.distance(select(grid, one.frame_region), reference)
            scores.append(
                float(look) + self.rec_lambda * outside_error(edit, one.outside, one.frame_region)
            )
        return scores


@final
class PhotoPatches:
    """Patches of reference photos, computed once for each photo, region and size."""

    def __init__(self, judge: PatchJudge) -> None:
        """Store the judge."""
        self._judge = judge
        self._known: dict[tuple[int, int, int, int], Tensor] = {}

    def of(self, one: FeedbackInput) -> Tensor:
        """Return the patches (M, C) of an input's photo, cropped like its frame, in the region."""
        height, width = one.frame.rgb.shape[:2]
        key = (id(one.photo), id(one.photo_region), height, width)
        if key not in self._known:
            (grid,) = self._judge.patches([cover(one.photo, height, width)])
            self._known[key] = select(grid, _covered(one.photo_region, height, width))
        return self._known[key]


def _covered(region: Mask | None, height: int, width: int) -> NDArray[np.float32] | None:
    if region is None:
        return None
    share = cover_region(region, height, width)
    if not share.any():
        raise ReferencePhotoError(
            "Region of a reference photo: it lies outside the middle of the photo that remains "
            f"when it is cropped to {height}x{width}. Crop the photo around the region."
        )
    return share


def select(grid: Tensor, region: NDArray[np.bool_ | np.float32] | None) -> Tensor:
    """Return the patches (M, C) of a grid (h, w, C) inside a region of its image; None: all."""
    height, width, channels = grid.shape
    if region is None:
        return grid.reshape(-1, channels)
    inside = torch.from_numpy(patch_region(region, height, width)).to(grid.device)
    return grid[inside]


def mean_distance(edit: Tensor, reference: Tensor) -> Tensor:
    """Return ``mean_{p, q} (1 - cos(p, q))`` of patches (n, C) and (m, C), the paper's; 0 to 2."""
    return _distances(edit, reference).mean()


def nearest_distance(edit: Tensor, reference: Tensor) -> Tensor:
    """Return ``mean_p min_q (1 - cos(p, q))``, from each edit patch to the nearest photo patch."""
    return _distances(edit, reference).amin(dim=1).mean()


def _distances(edit: Tensor, reference: Tensor) -> Tensor:
    """Return the cosine distances (n, m)."""
    first = torch.nn.functional.normalize(edit.float(), dim=1)
    second = torch.nn.functional.normalize(reference.float(), dim=1)
    return 1.0 - first @ second.T


def outside_error(edit: RGB, frame: RGB, region: Mask | None) -> float:
    """Return the mean squared error outside a region, values in 0..1; 0 without an outside."""
    if region is None or region.all():
        return 0.0
    outside = ~region
    difference = edit[outside].astype(np.float64) - frame[outside].astype(np.float64)
    return float(np.square(difference / 255.0).mean())
