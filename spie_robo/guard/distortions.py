"""Known changes to a picture's geometry, with the geometry that the changed picture shows.

The guard is calibrated on them (it must notice each), and the judge is trained with them (it must
report what is in the picture, not the layout that scenes usually have). They are made by cutting
an object out by its mask, filling the hole from around it, and pasting the object elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.guard.classes import GeometryClass

Mask: TypeAlias = NDArray[np.bool_]
FillMethod = Literal["telea", "navier-stokes"]
_INPAINT = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
_HALO = 2
"""Reach of an object's blurred edge beyond its mask, in pixels."""


@final
@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A picture and the geometry that it shows.

    Attributes:
        rgb: uint8, (H, W, 3).
        depth: float32, (H, W), metres.
        classes: uint8, (H, W): values of ``GeometryClass``.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    classes: NDArray[np.uint8]


def object_masks(image: LabelledImage, minimum_area: int = 30) -> list[Mask]:
    """The separate objects of a picture, smallest left out.

    Args:
        image: The picture.
        minimum_area: In pixels.

    Returns:
        bool, (H, W) each.
    """
    labels = silhouettes(image.classes, GeometryClass.OBJECT, minimum_area)
    return [labels == label for label in range(1, int(labels.max()) + 1)]


def remove(image: LabelledImage, mask: Mask, fill: FillMethod = "telea") -> LabelledImage:
    """Take an object away and fill the hole from around it.

    Args:
        image: The picture.
        mask: bool, (H, W): the object.
        fill: OpenCV's method of inpainting.
    """
    around = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_HALO)
    rgb = cv2.inpaint(image.rgb, around, 3, _INPAINT[fill])
    if mask.all():
        return LabelledImage(cast("NDArray[np.uint8]", rgb), image.depth, image.classes)
    pixels = np.where(mask, 0, np.arange(1, mask.size + 1).reshape(mask.shape)).astype(np.int32)
    where = nearest_label(pixels) - 1
    return LabelledImage(
        cast("NDArray[np.uint8]", rgb), image.depth.ravel()[where], image.classes.ravel()[where]
    )


def paste(
    image: LabelledImage, donor: LabelledImage, mask: Mask, transform: NDArray[np.float64]
) -> LabelledImage:
    """Paste an object of another picture (or the same one) in front of everything.

    Args:
        image: The picture that gets the object.
        donor: The picture that has it.
        mask: bool, (H, W): the object in ``donor``.
        transform: float64, (2, 3): affine map from donor pixels to image pixels.
    """
    size = mask.shape[::-1]
    alpha = cv2.warpAffine(mask.astype(np.float32), transform, size, flags=cv2.INTER_LINEAR)
    moved = cv2.warpAffine(
        donor.rgb, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    depth = cv2.warpAffine(donor.depth, transform, size, flags=cv2.INTER_NEAREST)
    inside = alpha >= 0.5
    blend = alpha[..., None] * moved + (1.0 - alpha[..., None]) * image.rgb
    return LabelledImage(
        np.rint(blend).astype(np.uint8),
        np.where(inside, depth, image.depth).astype(np.float32),
        np.where(inside, np.uint8(GeometryClass.OBJECT), image.classes).astype(np.uint8),
    )


def shift(
    image: LabelledImage,
    mask: Mask,
    pixels: float,
    generator: np.random.Generator,
    fill: FillMethod = "telea",
) -> LabelledImage:
    """Move an object, in a random direction that keeps it in the picture where there is one.

    Args:
        image: The picture.
        mask: bool, (H, W): the object.
        pixels: How far.
        generator: Chooses the direction.
        fill: OpenCV's method of inpainting.
    """
    moves = []
    for angle in generator.uniform(0, 2 * np.pi, 16):
        offset = pixels * np.array([np.cos(angle), np.sin(angle)])
        transform = np.array([[1.0, 0.0, offset[0]], [0.0, 1.0, offset[1]]])
        moved = cv2.warpAffine(mask.astype(np.float32), transform, mask.shape[::-1])
        moves.append((float(moved.sum()), transform))
        if moved.sum() >= 0.98 * mask.sum():
            break
    transform = max(moves, key=lambda move: move[0])[1]
    return paste(remove(image, mask, fill), image, mask, transform)


def scale(
    image: LabelledImage, mask: Mask, factor: float, fill: FillMethod = "telea"
) -> LabelledImage:
    """Grow or shrink an object about its centre.

    Args:
        image: The picture.
        mask: bool, (H, W): the object.
        factor: 1.1 makes it 10 % wider and higher.
        fill: OpenCV's method of inpainting.
    """
    y, x = (float(values.mean()) for values in np.nonzero(mask))
    transform = np.array([[factor, 0.0, (1 - factor) * x], [0.0, factor, (1 - factor) * y]])
    return paste(remove(image, mask, fill), image, mask, transform)


def insert(
    image: LabelledImage, donor: LabelledImage, mask: Mask, generator: np.random.Generator
) -> LabelledImage:
    """Paste an object at a random place on the table, or anywhere if there is no table.

    Args:
        image: The picture that gets the object.
        donor: The picture that has it.
        mask: bool, (H, W): the object in ``donor``.
        generator: Chooses the place.
    """
    rows, columns = np.nonzero(image.classes == GeometryClass.TABLE)
    if len(rows) == 0:
        rows, columns = np.nonzero(np.ones_like(mask))
    chosen = int(generator.integers(len(rows)))
    y, x = (float(values.mean()) for values in np.nonzero(mask))
    transform = np.array([[1.0, 0.0, columns[chosen] - x], [0.0, 1.0, rows[chosen] - y]])
    return paste(image, donor, mask, transform)


def warp(image: LabelledImage, pixels: float, generator: np.random.Generator) -> LabelledImage:
    """Bend the whole picture smoothly.

    Args:
        image: The picture.
        pixels: Largest displacement of any pixel.
        generator: Draws the bend.
    """
    height, width = image.classes.shape
    field = generator.standard_normal((2, 5, 5)).astype(np.float32)
    smooth = np.stack(
        [cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in field]
    )
    smooth *= pixels / np.hypot(smooth[0], smooth[1]).max()
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return remap(image, x + smooth[0], y + smooth[1])


def remap(image: LabelledImage, x: NDArray[np.float32], y: NDArray[np.float32]) -> LabelledImage:
    """Look every pixel up elsewhere, picture and labels alike.

    Args:
        image: The picture.
        x: float32, (H, W): the column that each pixel is taken from.
        y: float32, (H, W): the row.
    """
    border = cv2.BORDER_REFLECT_101
    return LabelledImage(
        cast("NDArray[np.uint8]", cv2.remap(image.rgb, x, y, cv2.INTER_LINEAR, borderMode=border)),
        cast(
            "NDArray[np.float32]",
            cv2.remap(image.depth, x, y, cv2.INTER_NEAREST, borderMode=border),
        ),
        cast(
            "NDArray[np.uint8]",
            cv2.remap(image.classes, x, y, cv2.INTER_NEAREST, borderMode=border),
        ),
    )


def silhouettes(
    truth: NDArray[np.uint8], geometry_class: int, minimum_area: int
) -> NDArray[np.int32]:
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
