"""Measured differences between the geometry of a frame and what a judge reads off its edit.

All functions are pure and take arrays of one size; pixels are those of the arrays that come.
"Truth" is the frame's geometry; "baseline" is what the judge reads off the *raw* frame.
"""

from __future__ import annotations

import math
from typing import TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.guard.classes import GeometryClass

Mask: TypeAlias = NDArray[np.bool_]
ClassMap: TypeAlias = NDArray[np.uint8]

Point: TypeAlias = tuple[float, float]
"""Column and row of a pixel."""

SILHOUETTE_CLASSES = (GeometryClass.ROBOT, GeometryClass.OBJECT, GeometryClass.GOAL)
"""Classes whose outlines are compared."""
SCALE_FLOOR = 1e-3


def normalise(values: NDArray[np.float32], valid: Mask | None = None) -> NDArray[np.float32]:
    """Remove offset and scale: subtract the median, divide by the mean absolute deviation.

    Args:
        values: float, any shape; log depth as the guard uses it.
        valid: Pixels that the statistics are taken over; all if None.

    Returns:
        float32 of the same shape, no unit.
    """
    known = values if valid is None else values[valid]
    median = np.median(known)
    deviation = max(float(np.abs(known - median).mean()), SCALE_FLOOR)
    return ((values - median) / deviation).astype(np.float32)


def depth_error(
    estimate: NDArray[np.float32],
    truth: NDArray[np.float32],
    baseline: NDArray[np.float32] | None = None,
) -> float:
    """Mean absolute difference of two normalised maps.

    Args:
        estimate: float32, (H, W): log depth read off the edit.
        truth: float32, (H, W): log depth of the frame; non-finite where unknown.
        baseline: float32, (H, W): log depth read off the raw frame. Where given, a pixel costs
            its smaller difference to either, so that a mistake that the judge makes on the raw
            frame already is not blamed on the edit.

    Returns:
        0 or more, no unit; NaN where no depth is known.
    """
    valid = np.isfinite(truth)
    if not valid.any():
        return math.nan
    edit = normalise(estimate, valid)[valid]
    difference = np.abs(edit - normalise(truth, valid)[valid])
    if baseline is not None:
        difference = np.minimum(difference, np.abs(edit - normalise(baseline, valid)[valid]))
    return float(difference.mean())


def excuse(estimate: ClassMap, truth: ClassMap, baseline: ClassMap) -> ClassMap:
    """Take out of an estimate the mistakes that the judge makes on the raw frame already.

    Args:
        estimate: uint8, (H, W): classes read off the edit.
        truth: uint8, (H, W): classes of the frame.
        baseline: uint8, (H, W): classes read off the raw frame.

    Returns:
        ``truth`` wherever the estimate agrees with truth or baseline, else the estimate.
    """
    return np.where((estimate == truth) | (estimate == baseline), truth, estimate)


def silhouettes(truth: ClassMap, geometry_class: int, minimum_area: int) -> NDArray[np.int32]:
    """Number the connected silhouettes of one class, leaving out slivers.

    Args:
        truth: uint8, (H, W): class ids.
        geometry_class: The class to number.
        minimum_area: Smaller silhouettes get no number, in pixels.

    Returns:
        int32, (H, W): 1, 2, ... inside a silhouette, 0 elsewhere, -1 inside a sliver.
    """
    mask = (truth == geometry_class).astype(np.uint8)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=count)
    numbers = np.zeros(count, np.int32)
    kept = 0
    for label in range(1, count):
        if areas[label] >= minimum_area:
            kept += 1
            numbers[label] = kept
        else:
            numbers[label] = -1
    return numbers[labels]


def nearest_label(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give every pixel the number of the silhouette that is nearest to it.

    Args:
        labels: int32, (H, W), as :func:`silhouettes` returns; some pixel is positive.

    Returns:
        int32, (H, W): 1, 2, ...
    """
    outside = (labels < 1).astype(np.uint8)
    _, places = cv2.distanceTransformWithLabels(
        outside, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number_of = np.zeros(int(places.max()) + 1, np.int32)
    number_of[places[outside == 0]] = labels[outside == 0]
    return cast("NDArray[np.int32]", number_of[places])


def silhouette_ious(
    estimate: ClassMap, truth: ClassMap, geometry_class: int, minimum_area: int = 16
) -> list[float]:
    """Overlap of each true silhouette of a class with the estimated pixels nearest to it.

    As every estimated pixel belongs to its nearest silhouette, something inserted anywhere lowers
    the overlap of its neighbour, and something removed makes its own zero.

    Args:
        estimate: uint8, (H, W): class ids read off the edit.
        truth: uint8, (H, W): class ids of the frame.
        geometry_class: The class to compare.
        minimum_area: Silhouettes with fewer pixels are not judged.

    Returns:
        One value 0..1 a silhouette. Where the truth has none, ``[0.0]`` if the edit shows at least
        ``minimum_area`` pixels of the class and ``[]`` otherwise.
    """
    found = _overlaps(estimate, truth, geometry_class, minimum_area)
    return [_iou(shown, true) for shown, true in found]


def _overlaps(
    estimate: ClassMap, truth: ClassMap, geometry_class: int, minimum_area: int
) -> list[tuple[Mask, Mask]]:
    """What the edit shows of each true silhouette, and the silhouette; empty for a false one."""
    labels = silhouettes(truth, geometry_class, minimum_area)
    seen = (estimate == geometry_class) & (labels >= 0)
    count = int(labels.max())
    if count < 1:
        return [(seen, np.zeros_like(seen))] if int(seen.sum()) >= minimum_area else []
    owner = nearest_label(labels)
    return [(seen & (owner == label), labels == label) for label in range(1, count + 1)]


def _iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


def mask_iou(
    estimate: ClassMap, truth: ClassMap, minimum_area: int = 16
) -> tuple[float, Point | None]:
    """The lowest overlap of any robot, object or goal silhouette, or of the table.

    Args:
        estimate: uint8, (H, W): class ids read off the edit.
        truth: uint8, (H, W): class ids of the frame.
        minimum_area: Silhouettes with fewer pixels are not judged.

    Returns:
        0..1, and a pixel of the silhouette that it is of; NaN and None where the frame shows
        nothing to compare.
    """
    pairs = [
        pair
        for geometry_class in SILHOUETTE_CLASSES
        for pair in _overlaps(estimate, truth, geometry_class, minimum_area)
    ]
    table, true_table = estimate == GeometryClass.TABLE, truth == GeometryClass.TABLE
    if true_table.sum() >= minimum_area:
        pairs.append((table, true_table))
    if not pairs:
        return math.nan, None
    ious = [_iou(shown, true) for shown, true in pairs]
    shown, true = pairs[int(np.argmin(ious))]
    return min(ious), pixel_of(true if true.any() else shown)


def pixel_of(mask: Mask) -> Point:
    """The pixel of a mask that is nearest to its centre.

    Args:
        mask: bool, (H, W); not empty.
    """
    pixels = np.argwhere(mask)
    row, column = pixels[np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()]
    return float(column), float(row)


def inserted_px(
    estimate: ClassMap, truth: ClassMap, clearance: int = 3
) -> tuple[float, Point | None]:
    """Area of the largest object that the edit shows away from every true one.

    Args:
        estimate: uint8, (H, W): class ids read off the edit.
        truth: uint8, (H, W): class ids of the frame.
        clearance: What lies nearer than this to a true object is its blurred edge, in pixels.

    Returns:
        In pixels, and one of them; 0 and None where nothing was added.
    """
    true = (truth == GeometryClass.OBJECT).astype(np.uint8)
    near = cv2.dilate(true, np.ones((3, 3), np.uint8), iterations=clearance)
    added = ((estimate == GeometryClass.OBJECT) & (near == 0)).astype(np.uint8)
    count, labels = cv2.connectedComponents(added, connectivity=8)
    if count < 2:
        return 0.0, None
    areas = np.bincount(labels.ravel(), minlength=count)[1:]
    largest = int(areas.argmax())
    return float(areas[largest]), pixel_of(labels == largest + 1)


def boundary(mask: Mask) -> Mask:
    """The pixels of a mask that touch its outside; the image's edge is no outside."""
    eroded = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return cast(Mask, mask & (eroded == 0))


def _distance_to(mask: Mask) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest one of a mask, in pixels."""
    outside = (~mask).astype(np.uint8)
    return cast(
        "NDArray[np.float32]", cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )


def boundary_f_of(estimate: Mask, truth: Mask, tolerance: float) -> float:
    """F-score of one boundary within a tolerance.

    With precision P, the share of estimated boundary pixels at most ``tolerance`` away from a true
    one, and recall R the other way round, F = 2PR / (P + R) (Martin et al., "Learning to detect
    natural image boundaries using local brightness, color, and texture cues", PAMI 2004).

    Args:
        estimate: bool, (H, W).
        truth: bool, (H, W).
        tolerance: In pixels.

    Returns:
        0..1; NaN where neither mask has a boundary.
    """
    found, true = boundary(estimate), boundary(truth)
    if not found.any() and not true.any():
        return math.nan
    if not found.any() or not true.any():
        return 0.0
    precision = float((_distance_to(true)[found] <= tolerance).mean())
    recall = float((_distance_to(found)[true] <= tolerance).mean())
    total = precision + recall
    return 2.0 * precision * recall / total if total > 0 else 0.0


def boundary_f(
    estimate: ClassMap, truth: ClassMap, tolerance: float = 1.0, minimum_area: int = 16
) -> float:
    """The lowest boundary F-score of any class with silhouettes (robot, object, goal).

    Args:
        estimate: uint8, (H, W): class ids read off the edit.
        truth: uint8, (H, W): class ids of the frame.
        tolerance: In pixels.
        minimum_area: A class with fewer true pixels is not judged.

    Returns:
        0..1; NaN where the frame shows nothing to compare.
    """
    scores = []
    for geometry_class in SILHOUETTE_CLASSES:
        labels = silhouettes(truth, geometry_class, minimum_area)
        if labels.max() < 1:
            continue
        seen = (estimate == geometry_class) & (labels >= 0)
        scores.append(boundary_f_of(seen, labels > 0, tolerance))
    return min((score for score in scores if not math.isnan(score)), default=math.nan)


def chroma_drift(raw: NDArray[np.uint8], edit: NDArray[np.uint8], mask: Mask) -> float:
    """Distance of the mean colours of two images inside a mask, in CIELAB's a*b* plane.

    Lightness is left out: another lamp may make a red cube darker, not green.

    Args:
        raw: uint8, (H, W, 3), sRGB.
        edit: uint8, (H, W, 3), sRGB.
        mask: bool, (H, W).

    Returns:
        0 or more (about 2 is just visible); NaN where the mask is empty.
    """
    if not mask.any():
        return math.nan
    means = []
    for image in (raw, edit):
        lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        means.append(lab[mask][:, 1:].mean(axis=0))
    return float(np.linalg.norm(means[0] - means[1]))
