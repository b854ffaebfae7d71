"""The records that cross a seam of the pipeline, and the protocols at the seams.

``Frame -> ImageEditor.edit -> EditResult -> Guard.judge -> GuardVerdict -> episode store``

Every record is frozen. Arrays inside a record are not copied: treat them as read-only.
This module imports nothing heavy, so that ``import spie_robo`` stays fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import FrameError

RGB: TypeAlias = NDArray[np.uint8]
"""An image, uint8, (height, width, 3), sRGB, row 0 at the top."""

References: TypeAlias = str | Path | Sequence[RGB]
"""Reference photos: a folder, a file, or the images themselves."""

GeometryOrigin = Literal["simulator", "recorded"]
"""The origin of a geometry: a simulator, or a file that another package wrote."""

GeometrySource = Literal["simulator", "recorded", "estimate", "none"]
"""The source of the geometry that an edit was judged against.

For ``estimate`` the raw frame's own edges stood in for geometry.
"""


def _equal_values(one: object, other: object) -> bool:
    """Return whether two values are equal, where NaN equals NaN and arrays compare as a whole."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if is_dataclass(one) and not isinstance(one, type):
        return type(one) is type(other) and all(
            _equal_values(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
        )
    if isinstance(one, tuple):
        return (
            isinstance(other, tuple)
            and len(one) == len(other)
            and all(map(_equal_values, one, other))
        )
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The geometry of one camera frame, as far as the simulator reports it.

    Attributes:
        depth: float32, (height, width): distance along the optical axis in metres.
        segmentation: int32, (height, width): instance id of each pixel.
        names: Name of each id of ``segmentation``, e.g. ``{0: "floor", 3: "cube"}``.
        intrinsics: float64, (3, 3): pinhole matrix in pixels; the centre of the top-left
            pixel is at (0.5, 0.5).
        extrinsics: float64, (4, 4): world to camera; x right, y down, z forward (OpenCV).
        origin: Whether a simulator or a recorded file reports the geometry.
    """

    depth: NDArray[np.float32] | None = None
    segmentation: NDArray[np.int32] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    intrinsics: NDArray[np.float64] | None = None
    extrinsics: NDArray[np.float64] | None = None
    origin: GeometryOrigin = "simulator"

    def __eq__(self, other: object) -> bool:
        """Compare by value, because Gymnasium's checker compares the infos with this record."""
        return _equal_values(self, other)


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image and, where it is known, its geometry.

    Attributes:
        rgb: uint8, (height, width, 3).
        camera: Name of the camera.
        geometry: Geometry of this very image, or None if it is unknown.

    Raises:
        FrameError: If ``rgb`` is not a uint8 image, or the geometry has another size.
    """

    rgb: RGB
    camera: str = "camera"
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        """Check dtype and shapes, so that later stages need not."""
        check_image(self.rgb, f"frame of camera {self.camera!r}")
        if self.geometry is None:
            return
        for name in ("depth", "segmentation"):
            array = getattr(self.geometry, name)
            if array is not None and array.shape != self.rgb.shape[:2]:
                raise FrameError(
                    f"{name} of camera {self.camera!r}: expected shape {self.rgb.shape[:2]} like "
                    f"its image, got {array.shape}. Render both at the same size."
                )


def check_image(image: object, what: str) -> None:
    """Raise unless ``image`` is a uint8 array of shape (height, width, 3).

    Args:
        image: Anything.
        what: Name of the image, for the message.

    Raises:
        FrameError: If dtype, shape or size is wrong.
    """
    expected = "expected a uint8 array of shape (height, width, 3)"
    if not isinstance(image, np.ndarray):
        raise FrameError(f"{what}: {expected}, got {type(image).__name__}.")
    if image.dtype != np.uint8:
        raise FrameError(
            f"{what}: {expected}, got dtype {image.dtype}. Scale it to 0..255 and use "
            "image.astype(np.uint8)."
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(
            f"{what}: {expected}, got shape {image.shape}. Move channels last, drop alpha."
        )
    if min(image.shape[:2]) < 16:
        raise FrameError(f"{what}: expected at least 16x16 pixels, got {image.shape[:2]}.")


@dataclass(frozen=True, eq=False)
class EditResult:
    """One edited frame and all that is needed to make it again.

    Attributes:
        rgb: uint8, the same shape as the frame that was edited.
        seed: Seed of this frame's initial noise.
        instruction: The text that the editor followed.
        editor_id: Name and weights hash of the editor, e.g. ``"embedded@3f9a2c"``.
        steps: Number of denoising steps.
    """

    rgb: RGB
    seed: int
    instruction: str
    editor_id: str
    steps: int


@dataclass(frozen=True)
class Deviation:
    """One measured difference between an edit and the geometry of its frame.

    Attributes:
        name: What was measured, e.g. ``"moved_px"``.
        value: The measurement; NaN where the frame offers nothing to measure.
        limit: The budget.
        at_most: True if ``value`` must not exceed ``limit``; False if it must reach it.
    """

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def exceeded(self) -> bool:
        """True if the value breaks its budget; a value that was not measured breaks none."""
        if math.isnan(self.value):
            return False
        return self.value > self.limit if self.at_most else self.value < self.limit


@dataclass(frozen=True)
class GuardVerdict:
    """The guard's decision whether an edit kept the geometry of its frame.

    Attributes:
        accepted: True if every deviation is within its budget.
        deviations: Everything that was measured, in a fixed order.
        reason: The decision in one sentence.
        source: Where the geometry came from.
    """

    accepted: bool
    deviations: tuple[Deviation, ...]
    reason: str
    source: GeometrySource

    def value(self, name: str) -> float:
        """Return the measured value called ``name``; NaN if it was not measured."""
        return next((d.value for d in self.deviations if d.name == name), math.nan)


@dataclass(frozen=True, eq=False)
class GuardedEdit:
    """The image that replaces a camera frame: the edit, or the raw frame if none was accepted.

    Attributes:
        rgb: uint8, (height, width, 3), the image to use.
        edited: True if ``rgb`` is an edit, False if it is the raw frame.
        verdict: The guard's verdict on the last edit tried; None without a guard.
        seed: Seed of the last edit tried.
        attempts: Number of edits tried.
        error: Error message of the editor; empty if it did not fail.
    """

    rgb: RGB
    edited: bool
    verdict: GuardVerdict | None
    seed: int
    attempts: int
    error: str = ""

    def __eq__(self, other: object) -> bool:
        """Compare by value, because Gymnasium's checker compares the infos with this record."""
        return _equal_values(self, other)


@runtime_checkable
class ImageEditor(Protocol):
    """Anything that edits frames; :class:`spie_robo.editor.Editor` is the one that ships."""

    @property
    def id(self) -> str:
        """Name and weights hash: equal ids give equal edits."""
        ...

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Edit each frame; the result of a frame does not depend on its batch neighbours."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Anything that judges whether an edit kept the geometry of its frame."""

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        """Measure one edit against the geometry of its frame."""
        ...

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        """Judge several frames at once, with the same verdicts as one by one."""
        ...


@runtime_checkable
class PolicyLike(Protocol):
    """Anything that acts in an environment: scripted experts, random and learned policies."""

    def reset(self, seed: int | None = None) -> None:
        """Forget the last episode."""
        ...

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Choose the next action."""
        ...
