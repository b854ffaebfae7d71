"""Direct evidence for where objects are: do a picture's edges run along their true silhouettes?

No network is asked, so this works on pictures of any kind. Each true silhouette is laid over the
picture as it is, moved and resized; the placement that runs along the strongest edges tells where
the object is drawn. A silhouette that the raw frame's own edges do not follow (a white cube on
white, a marker that is not drawn) can tell nothing and is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.deviations import ClassMap, Point, boundary, silhouettes

Floats: TypeAlias = NDArray[np.float32]

_REACH = 8
"""Largest shift that is tried, in pixels a side."""

_IN_PLACE = 1.0
"""A placement that moves an outline by no more is in place, in pixels."""

_PRICE = 0.05
"""How much stronger the edges must be for each pixel that a placement lies further away."""

_FRAME = 2
"""Outlines this near to the picture's border are no evidence, in pixels."""

_QUIET = 3.0
"""Slopes well below this are noise rather than edges, in grey levels per pixel."""

_DOUBT = 0.6
"""Added to every support before two are compared: faint edges prove little either way."""

_VISIBLE = 0.5
"""Least support that an outline has in the raw frame, beyond the doubt, if it is to be judged."""

_SMALLEST_CONTOUR = 8
_STRONGEST = 4.0


def _placements() -> Floats:
    """Every (right, down, scale) that is tried."""
    shifts = [(x, y, 1.0) for x in range(-_REACH, _REACH + 1) for y in range(-_REACH, _REACH + 1)]
    grown = [
        (0, 0, scale) for scale in np.exp(np.linspace(-0.36, 0.36, 25)) if abs(scale - 1.0) > 1e-3
    ]
    return np.array(shifts + grown, np.float32)


_PLACEMENTS = _placements()


@final
@dataclass(frozen=True, eq=False)
class Contour:
    """The outline of one silhouette, between its last pixels and the first ones outside.

    Attributes:
        points: float32, (P, 2): column and row.
        normals: float32, (P, 2): unit vectors across the outline.
        centre: float32, (2,): column and row of the silhouette's centre.
    """

    points: Floats
    normals: Floats
    centre: Floats

    @property
    def radius(self) -> float:
        """Mean distance of the outline from the centre, in pixels."""
        return float(np.hypot(*(self.points - self.centre).T).mean())


def contours(
    truth: ClassMap,
    classes: tuple[GeometryClass, ...] = (GeometryClass.OBJECT, GeometryClass.GOAL),
    minimum_area: int = 30,
) -> list[Contour]:
    """The outlines of all separate silhouettes.

    Args:
        truth: uint8, (H, W): class ids.
        classes: Which classes have outlines.
        minimum_area: Smaller silhouettes are left out, in pixels.
    """
    found = []
    for geometry_class in classes:
        labels = silhouettes(truth, geometry_class, minimum_area)
        for label in range(1, int(labels.max()) + 1):
            contour = _contour(labels == label)
            if contour is not None:
                found.append(contour)
    return found


def _contour(mask: NDArray[np.bool_]) -> Contour | None:
    """The outline of a mask; None if too little of it lies inside the picture."""
    edge = boundary(mask)
    edge[:_FRAME] = edge[-_FRAME:] = edge[:, :_FRAME] = edge[:, -_FRAME:] = False
    rows, columns = np.nonzero(edge)
    if len(rows) < _SMALLEST_CONTOUR:
        return None
    inside, outside = mask.astype(np.uint8), (~mask).astype(np.uint8)
    depth_inside = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    depth_outside = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    signed = cv2.GaussianBlur(np.subtract(depth_inside, depth_outside), (0, 0), 1.0)
    slopes = _gradient(signed)[rows, columns]
    normals = slopes / (np.linalg.norm(slopes, axis=1, keepdims=True) + np.float32(1e-6))
    points = np.stack([columns, rows], axis=1).astype(np.float32) - 0.5 * normals
    y, x = (float(values.mean()) for values in np.nonzero(mask))
    return Contour(points, normals, np.array([x, y], np.float32))


def _gradient(values: cv2.typing.MatLike) -> Floats:
    """Slope to the right and down, per pixel; a last axis of 2 is added."""
    right = cv2.Scharr(values, cv2.CV_32F, 1, 0)
    down = cv2.Scharr(values, cv2.CV_32F, 0, 1)
    return np.stack([right, down], axis=-1).astype(np.float32) / np.float32(32)


def edge_field(rgb: NDArray[np.uint8]) -> Floats:
    """The gradient of the channel that changes most, relative to how busy its surroundings are.

    Args:
        rgb: uint8, (H, W, 3).

    Returns:
        float32, (H, W, 2): right and down.
    """
    smooth = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 0.8)
    # Channel by channel: NumPy is slow at axes as short as three or two.
    chosen, strongest = None, None
    for channel in cv2.split(smooth):
        gradient = _gradient(channel)
        magnitude = np.sqrt(gradient[..., 0] ** 2 + gradient[..., 1] ** 2)
        if chosen is None or strongest is None:
            chosen, strongest = gradient, magnitude
            continue
        stronger = magnitude > strongest
        np.copyto(chosen, gradient, where=stronger[..., None])
        np.copyto(strongest, magnitude, where=stronger)
    assert chosen is not None and strongest is not None
    busy = cv2.GaussianBlur(strongest, (0, 0), 8.0) + _QUIET
    return cast(Floats, chosen / busy[..., None])


def support(field: Floats, contour: Contour) -> Floats:
    """How strong the edges along an outline are, for every placement tried.

    ``0.6 + mean |g . n|``: the gradients across the outline, each at most 4.

    Args:
        field: From :func:`edge_field`.
        contour: The outline.

    Returns:
        float32, (placements,).
    """
    right, down, scale = _PLACEMENTS.T[:, :, None]
    offset = contour.points - contour.centre
    x = (contour.centre[0] + offset[:, 0] * scale + right).astype(np.float32)
    y = (contour.centre[1] + offset[:, 1] * scale + down).astype(np.float32)
    sampled = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    slope_right, slope_down = sampled[..., 0], sampled[..., 1]
    across = np.abs(slope_right * contour.normals[:, 0] + slope_down * contour.normals[:, 1])
    return cast(Floats, np.minimum(across, _STRONGEST).mean(axis=1) + np.float32(_DOUBT))


def moved_by(contour: Contour) -> Floats:
    """How far each placement moves an outline's points, in pixels; float32, (placements,)."""
    right, down, scale = _PLACEMENTS.T
    return cast(Floats, np.hypot(np.hypot(right, down), contour.radius * (scale - 1.0)))


@final
@dataclass(frozen=True)
class EdgeFit:
    """Where a picture's edges place the objects of its frame.

    Attributes:
        displacement_px: How far the object that moved or grew most has its outline from the true
            one, in pixels.
        support: The smallest ratio, over objects, of the edges along the outline in place to those
            along the best placement elsewhere; well above 1 where an object stands out in place.
        displaced_at: Column and row of the centre of the object that moved most, in pixels.
        unsupported_at: The same of the object with the smallest support.
    """

    displacement_px: float
    support: float
    displaced_at: Point | None = None
    unsupported_at: Point | None = None


def edge_fit(rgb: NDArray[np.uint8], raw: NDArray[np.uint8], truth: ClassMap) -> EdgeFit:
    """Measure an edit.

    Args:
        rgb: uint8, (H, W, 3): the edit.
        raw: uint8, (H, W, 3): the raw frame.
        truth: uint8, (H, W): the frame's class ids.

    Returns:
        The fit; NaN where the frame shows no object whose outline can be followed.
    """
    field, raw_field = edge_field(rgb), edge_field(raw)
    displacements: list[tuple[float, Point]] = []
    supports: list[tuple[float, Point]] = []
    for contour in contours(truth):
        distance = moved_by(contour)
        near, far = distance <= _IN_PLACE, distance > _IN_PLACE
        shown = support(raw_field, contour)
        visible = shown[near].max() >= _DOUBT + _VISIBLE
        if not visible or _displacement(shown, distance) > _IN_PLACE:
            continue
        found = support(field, contour)
        centre = float(contour.centre[0]), float(contour.centre[1])
        displacements.append((_displacement(found, distance), centre))
        supports.append((float(found[near].max() / found[far].max()), centre))
    if not displacements:
        return EdgeFit(math.nan, math.nan)
    (displacement, displaced_at), (least, unsupported_at) = max(displacements), min(supports)
    return EdgeFit(displacement, least, displaced_at, unsupported_at)


def _displacement(found: Floats, distance: Floats) -> float:
    return float(distance[int(np.argmax(found * (1.0 - _PRICE * distance)))])
