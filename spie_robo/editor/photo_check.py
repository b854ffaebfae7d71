"""Check the photos of a lab: each must be usable, and none may repeat another.

``folder or file -> check_photos() -> CheckedPhotos``. All faults are reported before any work.
Every command reads its photos with this module, so that all use the same ones.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import cv2
import numpy as np
from tqdm import tqdm

from spie_robo.editor.photo_decoding import DecodedPhoto, decode_photo
from spie_robo.editor.photo_files import MOST_PHOTOS, photo_files, used_photos
from spie_robo.editor.references import PhotoReferences
from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.types import RGB, References, check_image

logger = logging.getLogger(__name__)

MINIMUM_SIDE = 64
"""Smallest height and width of a photo, pixels."""

_OTHER_PICTURES = (".heic", ".heif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".dng")
_NEARLY = 8  # grey levels: noise of a black frame, and what JPEG makes of a white one
_THUMBNAIL = 16
_SAME_PHOTO = 2.0
# Mean difference of thumbnails in grey levels. A photo saved anew (JPEG quality 60, a third of its
# size, sensor noise) is 0.1 to 0.8 away from itself; two photos of one table by a fixed camera, 4.


@final
@dataclass(frozen=True, eq=False)
class CheckedPhotos:
    """The photos that can be used.

    Attributes:
        files: Their files, in order of the names.
        images: uint8, (height, width, 3) each, upright, without alpha, at most about 2048 pixels a
            side; one for each file.
        notes: Notes for the user: photos left out and why. Empty if there is nothing to note.
        doubts: Those of the notes that are about photos whose colours may be off.
    """

    files: tuple[Path, ...]
    images: tuple[RGB, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """File names, without folders."""
        return tuple(file.name for file in self.files)


def check_photos(path: str | Path, *, most: int = MOST_PHOTOS) -> CheckedPhotos:
    """Read and check the photos of a lab.

    If there are more than ``most`` photos, that many are used, evenly over the order of their
    names, and only these are read. Of photos of the same picture the first is kept. Region masks
    their photos (``desk.mask.png`` or ``desk_mask.png`` for ``desk.jpg``) are not photos.

    Args:
        path: A folder with JPEG and PNG files, or one file.
        most: Most photos to use.

    Raises:
        ReferencePhotoError: If there is no photo, or a photo cannot be read, is smaller than 64
            pixels a side, or all black or white; it names the file.
    """
    # Find the files, and choose evenly if there are too many.
    others = other_pictures(Path(path))
    try:
        files = photo_files(Path(path))
    except ReferencePhotoError as error:
        raise ReferencePhotoError(" ".join([str(error), *others])) from error
    notes = [*others]
    if len(files) > most:
        notes.append(
            f"{path}: {len(files)} photos, of which {most} are used, evenly over their names. "
            "Put the ones that show the lab best into a folder of their own to choose yourself."
        )
        files = used_photos(Path(path), most)
    # Read them; large photos take half a second each, so a bar appears after two seconds.
    photos = [_read(file) for file in tqdm(files, "photos", unit="photo", delay=2, leave=False)]
    doubts = tuple(photo.note for photo in photos if photo.note)
    notes += doubts
    images = [photo.image for photo in photos]
    # Leave out copies.
    copies = near_duplicates(images)
    notes += [
        f"{files[copy].name} shows the same picture as {files[first].name} and is left out."
        for copy, first in copies.items()
    ]
    kept = [index for index in range(len(files)) if index not in copies]
    if len(kept) == 1:
        notes.append(
            f"{path}: one photo. It works; two to five from different places show more of the "
            "lab's light and materials."
        )
    return CheckedPhotos(
        tuple(files[i] for i in kept), tuple(images[i] for i in kept), tuple(notes), doubts
    )


def load_references(references: References) -> PhotoReferences:
    """Load the reference photos of an edit.

    Args:
        references: A folder or a file, from which :func:`check_photos` chooses; or uint8 images
            of shape (H, W, 3), which are all used.

    Raises:
        ReferencePhotoError: If a folder has no photos, or a photo cannot be used.
    """
    if isinstance(references, (str, Path)):
        checked = check_photos(references)
        for doubt in checked.doubts:
            logger.warning("%s", doubt)
        return PhotoReferences(checked.images)
    images = tuple(references)
    if not images:
        raise ReferencePhotoError("References: expected at least one image, got an empty list.")
    for index, image in enumerate(images):
        try:
            check_image(image, f"reference {index}")
        except FrameError as error:
            raise ReferencePhotoError(str(error)) from error
    return PhotoReferences(images)


def other_pictures(folder: Path) -> tuple[str, ...]:
    """Return one sentence on pictures that are not JPEG or PNG; nothing if there are none."""
    try:
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    except OSError:  # photo_files reports it
        return ()
    found = sorted(name for name in names if Path(name).suffix.lower() in _OTHER_PICTURES)
    if not found:
        return ()
    named = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    return (
        f"{folder}: pictures of other formats than JPEG and PNG are left out ({named}). Save them "
        "as JPEG; iPhones do with Settings > Camera > Formats > Most Compatible.",
    )


def near_duplicates(images: Sequence[RGB], others: Sequence[RGB] = ()) -> dict[int, int]:
    """Find images that show the same picture as an earlier one: saved again, resized or noisier.

    Colour thumbnails are compared, so that another exposure of the same view is another photo.

    Args:
        images: uint8, (height, width, 3) each, of any sizes.
        others: If given, images are compared with these and not among themselves.

    Returns:
        The index of the first picture, in ``images`` or, if given, in ``others``, for the index of
        each copy.
    """
    known = [_thumbnail(image) for image in others]
    indices = list(range(len(known)))
    copies: dict[int, int] = {}
    for index, image in enumerate(images):
        thumbnail = _thumbnail(image)
        distances = [float(np.abs(thumbnail - other).mean()) for other in known]
        if distances and min(distances) < _SAME_PHOTO:
            copies[index] = indices[int(np.argmin(distances))]
        elif not others:
            known.append(thumbnail)
            indices.append(index)
    return copies


def _thumbnail(image: RGB) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    size = (_THUMBNAIL, _THUMBNAIL)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _read(file: Path) -> DecodedPhoto:
    photo = decode_photo(file)
    height, width = photo.image.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        raise ReferencePhotoError(
            f"{file}: expected a photo of at least {MINIMUM_SIDE}x{MINIMUM_SIDE} pixels, got "
            f"{width}x{height}. Take a larger one, or take it out of the folder."
        )
    _require_content(file, photo.image)
    return photo


def _require_content(file: Path, image: RGB) -> None:
    """Refuse a photo of a lens cap, or of nothing but light: an edit would follow it."""
    darkest, brightest = np.percentile(image, (1, 99))
    name = "black" if brightest <= _NEARLY else "white" if darkest >= 255 - _NEARLY else ""
    if name:
        raise ReferencePhotoError(
            f"{file}: expected a photo of a lab, all of it is {name}. Take it again with "
            f"{'more' if name == 'black' else 'less'} light, or take it out of the folder."
        )
