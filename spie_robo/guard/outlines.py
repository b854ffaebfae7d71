"""Outlines that an edit has to keep, cut into short pieces.

``frame -> scene_of -> Scene``: every place where the truth has a rim (the silhouette of an object
or of the robot, a border between surfaces, a jump or a crease in depth), as points with normals.
Without truth the raw frame's own edges stand in. Plain NumPy and OpenCV: this is done once a frame,
whatever the number of edits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.guard.roles import Role, is_see_through, roles_in
from spie_robo.types import RGB, Frame

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

LONGEST_SIDE: Final = 256
"""Frames with a longer side are judged at this size, in pixels."""

PLACE: Final = 3.0
"""Half the edge length of the places that are searched for new structure, in reference pixels."""

REFERENCE_WIDTH: Final = 128
"""Lengths of the guard are in pixels of a frame this wide."""

_FOLLOWED: Final[tuple[Role, ...]] = ("object", "goal", "robot")
_SMALLEST_AREA: Final = 6
_SMALLEST_ROBOT_PART: Final = 60
_MARGIN: Final = 2
"""Outlines this near to the picture's border are no evidence, in pixels."""
_CELL: Final = 8.0
"""Edge length of the cells that cut outlines into pieces, in reference pixels."""
_CREASE: Final = 0.006
"""Second difference of log depth from which a place is a crease or a jump, per pixel."""
_OCCLUDES: Final = 0.985
_MOST_SCENE_POINTS: Final = 700
_SMALLEST_SURFACE: Final = 80
_SHADOW: Final = 10.0
_LEAST_TRUST: Final = 0.2
_SECTORS: Final = 4
_MOST_CELLS: Final = 1 << 14
_EDGE: Final = (40.0, 80.0)
"""Canny's lower and upper threshold: eight times a slope, in grey levels."""
_LARGEST_BLOB: Final = 0.3


@final
@dataclass(frozen=True, eq=False)
class SceneSilhouette:
    """One silhouette whose outline is followed.

    Attributes:
        name: What it is called; empty if unknown.
        role: What it is for the task.
        centre: Column and row of its centre, in pixels of the grid.
        radius: Radius of a disc of its area, in pixels of the grid.
        mask: bool, (H, W) of the grid.
    """

    name: str
    role: Role
    centre: tuple[float, float]
    radius: float
    mask: Mask


@final
@dataclass(frozen=True, eq=False)
class Scene:
    """Truth that edits of one frame are compared with, on the guard's grid.

    Attributes:
        raw: uint8, (H, W, 3): the raw frame.
        scale: Grid pixels a pixel of the frame; 1 unless the frame is large.
        pixels: Grid pixels a reference pixel.
        silhouettes: Objects, goals and the robot.
        points: float32, (P, 2): column and row of rim points; pixel centres are integers.
        normals: float32, (P, 2): unit vectors across the rim, out of a silhouette.
        piece: int64, (P,): the piece that each point belongs to.
        owner: int64, (M,): the silhouette that each piece outlines; -1 for the scene's own rims.
        surfaces: int64, (H, W): the smooth surface that a pixel belongs to, from 1 on; 0 near rims.
        share: float32, (H, W): share of each place that lies on smooth surfaces, 0..1.
        trust: float32, (H, W): low beside the robot, where its shadow falls, to 1 away from it.
    """

    raw: RGB
    scale: float
    pixels: float
    silhouettes: tuple[SceneSilhouette, ...]
    points: Floats
    normals: Floats
    piece: Ints
    owner: Ints
    surfaces: Ints
    share: Floats
    trust: Floats


@final
@dataclass(frozen=True, eq=False)
class _Slopes:
    """Gradients of the smoothed raw frame, (H, W, 3) each: to the right and down."""

    right: Floats
    down: Floats


def scene_of(frame: Frame, roles: Mapping[str, Role] | None = None) -> Scene:
    """Read off a frame and its geometry what edits have to keep.

    Args:
        frame: The raw frame.
        roles: The user's own patterns of names, see :func:`spie_robo.guard.roles.role_of`.
    """
    height, width = frame.rgb.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    raw = on_grid(frame.rgb, size)
    pixels = size[0] / REFERENCE_WIDTH
    smooth = cast(RGB, cv2.GaussianBlur(raw, (0, 0), 0.8))
    slopes, edges = _slopes(smooth), _edges(smooth)
    geometry = frame.geometry
    depth = None if geometry is None else _nearest(geometry.depth, size)
    ids = None if geometry is None else _nearest(geometry.segmentation, size)

    # Silhouettes come from the truth, or else from what stands out in the raw frame.
    if ids is None or geometry is None:
        silhouettes = _blobs(edges, pixels)
        rims = edges.copy() if depth is None else np.zeros_like(edges)
    else:
        groups, known = _grouped(ids, geometry.names, roles, depth)
        silhouettes = _silhouettes(groups, known, pixels)
        rims = _borders(groups)
    if depth is not None:
        rims |= _creases(depth, pixels)

    # Rim points: along silhouettes, and where the raw frame has an edge at another rim.
    parts = [_outline(one.mask, depth) for one in silhouettes]
    covered = np.zeros_like(rims)
    for one in silhouettes:
        covered |= one.mask
    parts.append(_scene_points(edges & _grown(rims, 1) & ~_grown(covered, 2), slopes))
    owners = [np.full(len(p), i, np.int64) for i, (p, _) in enumerate(parts)]
    owners[-1][:] = -1
    points, normals = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    kept, piece, owner = _pieces(points, normals, np.concatenate(owners), pixels)
    surfaces = _surfaces(rims | covered, pixels)
    return Scene(
        raw=raw,
        scale=scale,
        pixels=pixels,
        silhouettes=silhouettes,
        points=points[kept],
        normals=normals[kept],
        piece=piece,
        owner=owner,
        surfaces=surfaces,
        share=_share(surfaces > 0, pixels),
        trust=_trust(silhouettes, raw.shape[:2], pixels),
    )


def on_grid(image: RGB, size: tuple[int, int]) -> RGB:
    """Bring a picture to the guard's grid; averaging keeps texture from turning into edges.

    Args:
        image: uint8, (height, width, 3).
        size: Width and height of the grid, at most those of the picture.
    """
    if image.shape[1::-1] == size:
        return image
    return cast(RGB, cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _nearest(array: NDArray[Any] | None, size: tuple[int, int]) -> NDArray[Any] | None:
    if array is None or array.shape[::-1] == size:
        return array
    return cast("NDArray[Any]", cv2.resize(array, size, interpolation=cv2.INTER_NEAREST))


def _slopes(smooth: RGB) -> _Slopes:
    right, down = (cv2.Sobel(smooth, cv2.CV_32F, x, 1 - x, scale=0.125) for x in (1, 0))
    return _Slopes(cast(Floats, right), cast(Floats, down))


def _edges(smooth: RGB) -> Mask:
    """Find thin, clear edges of the raw frame in any channel, away from its border."""
    edges = cv2.Canny(smooth, *_EDGE) > 0
    edges[:_MARGIN] = edges[-_MARGIN:] = edges[:, :_MARGIN] = edges[:, -_MARGIN:] = False
    return edges


def _grown(mask: Mask, pixels: int) -> Mask:
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def _grouped(
    ids: NDArray[np.int32],
    names: Mapping[int, str],
    roles: Mapping[str, Role] | None,
    depth: Floats | None,
) -> tuple[NDArray[np.int32], list[tuple[Role, str]]]:
    """Merge ids that are one thing: parts of one name, the whole robot, all that is nothing."""
    numbers: dict[tuple[Role, str, int], int] = {}
    of_id: dict[int, int] = {}
    for number, role in roles_in(ids, names, roles, depth).items():
        name = names.get(number, "")
        key = (role, name, 0 if name else number)
        if role == "robot":
            key = (role, "robot", 0)
        elif role == "background" and not name:
            key = (role, "", 0)
        of_id[number] = numbers.setdefault(key, len(numbers))
    present = np.fromiter(of_id, ids.dtype)
    groups = np.fromiter(of_id.values(), np.int32)[np.searchsorted(present, ids)]
    return groups, [(role, name) for role, name, _ in numbers]


def _silhouettes(
    groups: NDArray[np.int32], known: list[tuple[Role, str]], pixels: float
) -> tuple[SceneSilhouette, ...]:
    """Each connected part of an object or goal, and the robot as a whole."""
    found = []
    for number, (role, name) in enumerate(known):
        if role not in _FOLLOWED or is_see_through(name):
            continue
        mask = (groups == number).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        if role == "robot":
            # Slivers of an arm behind something else say little, and thin cables nothing.
            parts = [i for i in range(1, count) if areas[i] >= _SMALLEST_ROBOT_PART * pixels**2]
            chosen = np.zeros(count, np.bool_)
            chosen[parts] = True
            masks = [chosen[labels]] if parts else []
        else:
            masks = [labels == i for i in range(1, count) if areas[i] >= _SMALLEST_AREA]
        found += [_silhouette(name, role, one) for one in masks]
    return tuple(found)


def _silhouette(name: str, role: Role, mask: Mask) -> SceneSilhouette:
    rows, columns = np.nonzero(mask)
    centre = float(columns.mean()), float(rows.mean())
    return SceneSilhouette(name, role, centre, float(np.sqrt(len(rows) / np.pi)), mask)


def _blobs(edges: Mask, pixels: float) -> tuple[SceneSilhouette, ...]:
    """Small things that stand out all around: what takes the place of objects without truth."""
    outlines, _ = cv2.findContours(edges.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = _LARGEST_BLOB * max(edges.shape)
    found = []
    for outline in outlines:
        _, _, width, height = cv2.boundingRect(outline)
        if max(width, height) > largest or cv2.contourArea(outline) < 8 * pixels**2:
            continue
        mask = np.zeros(edges.shape, np.uint8)
        cv2.drawContours(mask, [outline], -1, 1, cv2.FILLED)
        found.append(_silhouette("", "object", mask > 0))
    return tuple(found)


def _borders(groups: NDArray[np.int32]) -> Mask:
    """Pixels whose right or lower neighbour belongs to another group."""
    borders = np.zeros(groups.shape, np.bool_)
    borders[:, :-1] |= groups[:, :-1] != groups[:, 1:]
    borders[:-1] |= groups[:-1] != groups[1:]
    return borders


def _creases(depth: Floats, pixels: float) -> Mask:
    """Find where depth jumps, or its slope does."""
    known = np.nan_to_num(depth, nan=50.0, posinf=50.0, neginf=50.0)
    log = np.log(np.clip(known, 0.05, 50.0))
    creases = np.zeros(depth.shape, np.bool_)
    limit = _CREASE / pixels
    creases[:, 1:-1] |= np.abs(log[:, 2:] - 2 * log[:, 1:-1] + log[:, :-2]) > limit
    creases[1:-1] |= np.abs(log[2:] - 2 * log[1:-1] + log[:-2]) > limit
    return creases


def _outline(mask: Mask, depth: Floats | None) -> tuple[Floats, Floats]:
    """Points between the last pixels inside a mask and the first outside, and outward normals."""
    rows, columns = np.nonzero(mask)
    top, left = max(rows.min() - 4, 0), max(columns.min() - 4, 0)
    crop = mask[top : rows.max() + 5, left : columns.max() + 5].astype(np.uint8)
    inner = cv2.erode(crop, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    rows, columns = np.nonzero((crop > 0) & (inner == 0))
    height, width = mask.shape
    inside = (rows + top >= _MARGIN) & (rows + top < height - _MARGIN)
    inside &= (columns + left >= _MARGIN) & (columns + left < width - _MARGIN)
    rows, columns = rows[inside], columns[inside]
    smooth = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, x, 1 - x)[rows, columns] for x in (1, 0)]
    normals = -np.stack(slopes, axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-6
    points = np.stack([columns + left, rows + top], axis=1) + 0.5 * normals
    if depth is None or not len(points):
        return points.astype(np.float32), normals.astype(np.float32)

    # Where something nearer begins, the rim is that thing's.
    beyond, within = (_sampled(depth, points + steps * normals) for steps in (1.5, -1.0))
    own = ~(beyond < _OCCLUDES * within)
    return points[own].astype(np.float32), normals[own].astype(np.float32)


def _sampled(values: Floats, points: NDArray[np.floating]) -> Floats:
    height, width = values.shape
    columns, rows = np.rint(points).astype(np.int64).T
    return cast(Floats, values[rows.clip(0, height - 1), columns.clip(0, width - 1)])


def _scene_points(mask: Mask, slopes: _Slopes) -> tuple[Floats, Floats]:
    """The raw frame's edge pixels within a mask, thinned out evenly, with their normals."""
    rows, columns = np.nonzero(mask)
    if len(rows) > _MOST_SCENE_POINTS:
        chosen = np.linspace(0, len(rows) - 1, _MOST_SCENE_POINTS).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    right, down = slopes.right[rows, columns], slopes.down[rows, columns]
    channel = np.hypot(right, down).argmax(axis=-1)
    each = np.arange(len(rows))
    normals = np.stack([right[each, channel], down[each, channel]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-6
    # Which side is lighter says nothing here: opposite normals are one direction.
    normals[normals[:, 0] + 1e-3 * normals[:, 1] < 0] *= -1
    points = np.stack([columns, rows], axis=1)
    return points.astype(np.float32), normals.astype(np.float32)


def _pieces(
    points: Floats, normals: Floats, owners: Ints, pixels: float
) -> tuple[Mask, Ints, Ints]:
    """Cut outlines into pieces: one cell, one owner, one direction."""
    column, row = (points.T // (_CELL * pixels)).astype(np.int64)
    angle = np.arctan2(normals[:, 1], normals[:, 0])
    step = np.where(owners < 0, np.pi / _SECTORS, 2 * np.pi / _SECTORS)
    sector = np.rint(angle / step).astype(np.int64) % _SECTORS
    code = (((owners + 1) * _MOST_CELLS + row) * _MOST_CELLS + column) * _SECTORS + sector
    _, piece, count = np.unique(code, return_inverse=True, return_counts=True)
    # A small object has few points, and needs them all; the scene's rims have many.
    kept = count[piece] >= np.where(owners < 0, 4, 1)
    _, piece = np.unique(piece[kept], return_inverse=True)
    owner = np.full(int(piece.max()) + 1 if len(piece) else 0, -1, np.int64)
    owner[piece] = owners[kept]
    return kept, piece.astype(np.int64), owner


def _surfaces(blocked: Mask, pixels: float) -> Ints:
    """Number the smooth surfaces between rims and things, from 1 on; 0 near those."""
    free = (~_grown(blocked, round(2 * pixels))).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(free, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _SMALLEST_SURFACE * pixels**2
    numbers = np.where(small, 0, np.arange(count, dtype=np.int64))
    numbers[0] = 0
    return cast(Ints, numbers[labels])


def _share(mask: Mask, pixels: float) -> Floats:
    """Return the share around each pixel that a mask covers; beyond the border lies nothing."""
    size = (2 * round(PLACE * pixels) + 1,) * 2
    return cast(
        Floats, cv2.boxFilter(mask.astype(np.float32), -1, size, borderType=cv2.BORDER_CONSTANT)
    )


def _trust(
    silhouettes: tuple[SceneSilhouette, ...], shape: tuple[int, ...], pixels: float
) -> Floats:
    """Weigh new structure: little beside a robot, whose shadow is as large as itself."""
    trust = np.ones(shape, np.float32)
    for one in silhouettes:
        if one.role == "robot":
            away = cv2.distanceTransform((~one.mask).astype(np.uint8), cv2.DIST_L2, 3)
            trust = np.clip((away / pixels - 2.0) / _SHADOW, _LEAST_TRUST, 1.0)
    return trust.astype(np.float32)
