"""The guard: is every object in the edit still where the frame's geometry says it is?

Two witnesses are heard. The judge reads depth and classes off the edit *and* off the raw frame. The
edit's reading is compared with the frame's geometry; where it reads as the raw frame does, the
difference is the judge's own mistake (frames of another simulator bring many) and is excused. And
the edit's edges are compared with the true outlines of the objects (``edges.py``). The judge
notices what was added or turned into something else, the edges what moved by two pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.guard import deviations
from spie_robo.guard.budget import AT_MOST, DEVIATION_NAMES, GuardBudget
from spie_robo.guard.classes import class_map, merge_movable
from spie_robo.guard.deviations import Point
from spie_robo.guard.edges import edge_fit
from spie_robo.guard.judge import GeometryEstimate, Judge, resize, shipped_judge
from spie_robo.types import RGB, Deviation, EditResult, Frame, GeometrySource, GuardVerdict

Measurement: TypeAlias = tuple[float, ...]
"""One value for each of :data:`DEVIATION_NAMES`; NaN where nothing could be measured."""


@final
@dataclass(frozen=True, eq=False)
class _Truth:
    """The geometry that an edit is held to, on the judge's grid."""

    log_depth: NDArray[np.float32]
    classes: NDArray[np.uint8]


@final
@dataclass(frozen=True)
class _Reading:
    """What was measured, and at which pixel of the judge's grid a deviation is largest."""

    values: Measurement
    places: Mapping[str, Point | None]
    size: int


@final
@dataclass(frozen=True, eq=False)
class GeometryGuard:
    """Measures edits against the geometry of their frames; implements ``types.Guard``.

    Attributes:
        budget: The limits of acceptance; the calibrated ones by default.
        protect: Instance names or ids whose colour matters; their drift is measured.
        estimator: Reads geometry off pictures; the shipped judge if None.

    Example:
        >>> import numpy as np
        >>> from spie_robo.types import EditResult, Frame
        >>> frame = Frame(np.zeros((64, 64, 3), np.uint8))
        >>> verdict = GeometryGuard().judge(frame, EditResult(frame.rgb, 0, "", "identity", 0))
        >>> verdict.accepted, verdict.source
        (True, 'estimate')
    """

    budget: GuardBudget = field(default_factory=GuardBudget)
    protect: tuple[str | int, ...] = ()
    estimator: Judge | None = None

    @property
    def description(self) -> dict[str, Any]:
        """What verdicts depend on, in plain values, for what a store remembers."""
        protect = [one if isinstance(one, str) else int(one) for one in self.protect]
        return {"limits": asdict(self.budget), "protect": protect}

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        """Measure one edit against the geometry of its frame.

        Args:
            frame: The raw frame. Without depth or segmentation the judge's reading of the raw
                frame stands in for it.
            edit: Its edit, of the same size.

        Returns:
            The verdict, with one deviation for each of ``DEVIATION_NAMES``, in that order.

        Raises:
            FrameError: If the edit has another size than the frame.
        """
        return self.judge_batch([frame], [edit])[0]

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        """The same for several frames at once; equal to judging them one by one.

        Raises:
            FrameError: If an edit has another size than its frame, or their numbers differ.
        """
        readings = self._read(frames, [edit.rgb for edit in edits])
        return [
            _verdict(frame, reading, self.budget)
            for frame, reading in zip(frames, readings, strict=True)
        ]

    def measure_batch(self, frames: Sequence[Frame], images: Sequence[RGB]) -> list[Measurement]:
        """The deviations alone, without limits: what calibration needs.

        Args:
            frames: The raw frames.
            images: uint8: an edit of each frame, of the same size.

        Returns:
            One measurement a frame.

        Raises:
            FrameError: As :meth:`judge_batch`.
        """
        return [reading.values for reading in self._read(frames, images)]

    def _read(self, frames: Sequence[Frame], images: Sequence[RGB]) -> list[_Reading]:
        if len(frames) != len(images):
            raise FrameError(f"Expected one edit a frame: {len(frames)} frames, {len(images)}.")
        for frame, image in zip(frames, images, strict=True):
            if image.shape != frame.rgb.shape:
                raise FrameError(
                    f"Edit of camera {frame.camera!r}: expected shape {frame.rgb.shape} like its "
                    f"frame, got {image.shape}. Resize the edit to its frame's size."
                )
        estimator = self.estimator or shipped_judge()
        distinct = {id(frame): frame for frame in frames}  # several edits may share a frame
        read = estimator.estimate([frame.rgb for frame in distinct.values()])
        baselines = dict(zip(distinct, read, strict=True))
        estimates = estimator.estimate(images)
        return [
            self._measure(frame, image, baselines[id(frame)], estimate)
            for frame, image, estimate in zip(frames, images, estimates, strict=True)
        ]

    def _measure(
        self, frame: Frame, image: RGB, baseline: GeometryEstimate, estimate: GeometryEstimate
    ) -> _Reading:
        truth = _truth(frame, baseline)
        true_classes = merge_movable(truth.classes)
        classes = deviations.excuse(
            merge_movable(estimate.classes), true_classes, merge_movable(baseline.classes)
        )
        edit = resize(image, estimate.classes.shape[0])
        fit = edge_fit(edit, resize(frame.rgb, estimate.classes.shape[0]), truth.classes)
        overlap, overlap_at = deviations.mask_iou(classes, true_classes)
        inserted, inserted_at = deviations.inserted_px(classes, true_classes)
        values = {
            "depth_error": deviations.depth_error(
                estimate.log_depth, truth.log_depth, baseline.log_depth
            ),
            "mask_iou": overlap,
            "boundary_f": deviations.boundary_f(classes, true_classes),
            "displacement_px": fit.displacement_px,
            "edge_support": fit.support,
            "inserted_px": inserted,
            "chroma_drift": deviations.chroma_drift(frame.rgb, image, self._protected(frame)),
        }
        places = {
            "mask_iou": overlap_at,
            "displacement_px": fit.displaced_at,
            "edge_support": fit.unsupported_at,
            "inserted_px": inserted_at,
        }
        measured = tuple(values[name] for name in DEVIATION_NAMES)
        return _Reading(measured, places, estimate.classes.shape[0])

    def _protected(self, frame: Frame) -> NDArray[np.bool_]:
        """Which pixels of a frame belong to protected instances, (height, width)."""
        geometry = frame.geometry
        if geometry is None or geometry.segmentation is None or not self.protect:
            return np.zeros(frame.rgb.shape[:2], np.bool_)
        known = set(geometry.names.values())
        unknown = [one for one in self.protect if isinstance(one, str) and one not in known]
        if known and unknown:
            raise FrameError(
                f"protect: no object is called {unknown[0]!r} in camera {frame.camera!r}. Its "
                f"objects: {', '.join(sorted(known))}."
            )
        ids = [entry for entry in self.protect if not isinstance(entry, str)]
        ids += [number for number, name in geometry.names.items() if name in self.protect]
        return np.isin(geometry.segmentation, ids)


def _source(frame: Frame) -> GeometrySource:
    geometry = frame.geometry
    if geometry is None or (geometry.depth is None and geometry.segmentation is None):
        return "estimate"
    return geometry.origin


def _truth(frame: Frame, baseline: GeometryEstimate) -> _Truth:
    """The frame's own geometry on the judge's grid; the baseline fills in what it lacks."""
    height, width = baseline.classes.shape
    log_depth, classes = baseline.log_depth, baseline.classes
    geometry = frame.geometry
    if geometry is not None and geometry.depth is not None:
        depth = cv2.resize(geometry.depth, (width, height), interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(depth) & (depth > 0)
        log_depth = np.full(depth.shape, np.nan, np.float32)
        log_depth[known] = np.log(depth[known])
    if geometry is not None and geometry.segmentation is not None:
        known_classes = class_map(geometry.segmentation, geometry.names)
        resized = cv2.resize(known_classes, (width, height), interpolation=cv2.INTER_NEAREST)
        classes = cast("NDArray[np.uint8]", resized)
    return _Truth(log_depth, classes)


def _verdict(frame: Frame, reading: _Reading, budget: GuardBudget) -> GuardVerdict:
    """Hold a measurement against the budget and say in one sentence what came of it."""
    source = _source(frame)
    measured = tuple(
        Deviation(name, value, getattr(budget, name), AT_MOST[name])
        for name, value in zip(DEVIATION_NAMES, reading.values, strict=True)
    )
    broken = [deviation for deviation in measured if deviation.exceeded]
    if broken:
        parts = [
            f"{d.name} is {d.value:.3g}{_where(frame, reading, d.name)}, "
            f"{'at most' if d.at_most else 'at least'} {d.limit:.3g} is allowed"
            for d in broken
        ]
        return GuardVerdict(False, measured, f"Rejected: {'; '.join(parts)}.", source)
    count = sum(not math.isnan(value) for value in reading.values)
    total = len(measured)
    reason = f"Accepted: {count} of {total} deviations measured, all within their limits."
    return GuardVerdict(True, measured, reason, source)


def _where(frame: Frame, reading: _Reading, deviation: str) -> str:
    """``" at cube (52, 80)"``: what is drawn wrong, and its column and row in the frame."""
    place = reading.places.get(deviation)
    if place is None:
        return ""
    height, width = frame.rgb.shape[:2]
    column = int((place[0] + 0.5) * width / reading.size)
    row = int((place[1] + 0.5) * height / reading.size)
    geometry = frame.geometry
    name = ""
    # What was inserted has no name: the one there is that of what it hides.
    if geometry is not None and geometry.segmentation is not None and deviation != "inserted_px":
        name = geometry.names.get(int(geometry.segmentation[row, column]), "")
    return f" at {name} ({column}, {row})" if name else f" at ({column}, {row})"
