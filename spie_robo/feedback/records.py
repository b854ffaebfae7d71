"""Define the records of the feedback stage: inputs, scores, advantages and rankings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.types import RGB, Frame, check_image

Mask: TypeAlias = NDArray[np.bool_]
"""A region of an image, bool, (height, width), True inside."""


@final
@dataclass(frozen=True, eq=False)
class FeedbackInput:
    """One input of an epoch: the frame that was edited and the photo to look like.

    Attributes:
        frame: The raw simulator frame.
        photo: uint8, (h, w, 3), the reference photo, of any size.
        frame_region: bool, (H, W) of the frame, where the edit should look like the photo; the
            rest should stay. None: the whole frame.
        photo_region: bool, (h, w) of the photo, the part that counts. None: all of it.
        kept: uint8, of the frame's size, the target of the edit outside its region. None: the
            frame.

    Raises:
        FrameError: If the frame's region or ``kept`` has another size than the frame, or the
            region is empty.
        ReferencePhotoError: If the photo is not a uint8 image, or its region does not fit it.
    """

    frame: Frame
    photo: RGB
    frame_region: Mask | None = None
    photo_region: Mask | None = None
    kept: RGB | None = None

    @property
    def outside(self) -> RGB:
        """Target of the edit outside its region."""
        return self.frame.rgb if self.kept is None else self.kept

    def __post_init__(self) -> None:
        """Check photo and regions, so that the scores need not."""
        try:
            check_image(self.photo, "reference photo")
        except FrameError as error:
            raise ReferencePhotoError(str(error)) from error
        frame_fault = _fault(self.frame_region, self.frame.rgb)
        if frame_fault:
            raise FrameError(f"Region of camera {self.frame.camera!r}: {frame_fault}")
        if self.kept is not None and self.kept.shape != self.frame.rgb.shape:
            raise FrameError(
                f"Camera {self.frame.camera!r}: expected a kept picture of shape "
                f"{self.frame.rgb.shape}, like the frame, got {self.kept.shape}."
            )
        photo_fault = _fault(self.photo_region, self.photo)
        if photo_fault:
            raise ReferencePhotoError(f"Region of the reference photo: {photo_fault}")


def _fault(region: Mask | None, image: RGB) -> str:
    """Return the fault of a region in words; empty if it has none."""
    if region is None:
        return ""
    if region.shape != image.shape[:2] or region.dtype != np.bool_:
        return (
            f"expected a bool mask of shape {image.shape[:2]}, like its image, got "
            f"{region.dtype} {region.shape}."
        )
    if not region.any():
        return "expected a mask with something inside, got an empty one. None means the whole."
    return ""


@final
@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of the K edits of N inputs; lower is better, NaN where there is none.

    Attributes:
        structural: float32, (N, K).
        semantic: float32, (N, K).
    """

    structural: Tensor
    semantic: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.structural.ndim != 2 or self.structural.shape != self.semantic.shape:
            raise ValueError(
                "Expected two tensors of one shape (inputs, K), got "
                f"{tuple(self.structural.shape)} and {tuple(self.semantic.shape)}."
            )


@final
@dataclass(frozen=True, eq=False)
class Feedback:
    """The signals that training learns from: scores, z-scores, advantages and rankings.

    Attributes:
        scores: The scores as measured.
        structural_z: float32, (N, K), z-scores over the batch; 0 in unscorable groups.
        semantic_z: float32, (N, K), z-scores over the batch; 0 in unscorable groups.
        advantages: float32, (N, K), higher is better; 0 in unscorable groups.
        ranking: int64, (N, K), indices of the K edits of an input, best first.
        scorable: bool, (N,), False where a score of the group is not finite.
        structural_deviation: Deviation that structural scores were divided by.
        semantic_deviation: Deviation that semantic scores were divided by.
    """

    scores: Scores
    structural_z: Tensor
    semantic_z: Tensor
    advantages: Tensor
    ranking: Tensor
    scorable: Tensor
    structural_deviation: float
    semantic_deviation: float
