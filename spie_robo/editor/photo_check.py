"""Check the photos of a lab: each must be usable, and none may repeat another.

``folder or file -> check_photos() -> CheckedPhotos``. All faults are reported before any work.
Every command reads its photos with this module, so that all use the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import cv2
import numpy as np
from tqdm import tqdm

from spie_robo.editor.photo_files import MOST_PHOTOS, photo_files, used_photos
from spie_robo.editor.references import PhotoReferences, read_photo
from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.types import RGB, References, check_image

MINIMUM_SIDE = 64
"""Smallest height and width of a photo, pixels."""

_OTHER_PICTURES = (".heic", ".heif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".dng")
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
    """

    files: tuple[Path, ...]
    images: tuple[RGB, ...]
    notes: tuple[str, ...] = ()

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
        ReferencePhotoError: If there is no photo, or a photo cannot be read or is smaller than
            64 pixels a side; it names the file.
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
    images = [_read(file) for file in tqdm(files, "photos", unit="photo", delay=2, leave=False)]
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
        tuple(files[i] for i in kept), tuple(images[i] for i in kept), tuple(notes)
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
        return PhotoReferences(check_photos(references).images)
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


def _read(file: Path) -> RGB:
    image = read_photo(file)
    height, width = image.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        raise ReferencePhotoError(
            f"{file}: expected a photo of at least {MINIMUM_SIDE}x{MINIMUM_SIDE} pixels, got "
            f"{width}x{height}. Take a larger one, or take it out of the folder."
        )
    return image
