"""Which files of a folder are reference photos, and which of them are used.

One rule for every command: at most :data:`MOST_PHOTOS`, evenly over the order of their names.
Everything else in the folder is left alone, unread.
"""

from __future__ import annotations

from pathlib import Path

from spie_robo.errors import ReferencePhotoError
from spie_robo.settings.wording import shortened

MOST_PHOTOS = 20
"""More photos add time and hardly any look: an edit follows one of them."""

SUFFIXES = (".jpg", ".jpeg", ".png")
_MASK_ENDS = (".mask", "_mask")


def photo_files(path: Path) -> list[Path]:
    """The photos of a folder, sorted by name; the file itself if it is one.

    Region masks beside their photos (``desk.mask.png`` or ``desk_mask.png`` for ``desk.jpg``, see
    :mod:`spie_robo.feedback.regions`) are not photos.

    Raises:
        ReferencePhotoError: If there is no such folder or file, it cannot be read, or no photo is
            in it.
    """
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise ReferencePhotoError(
                f"References: there is no folder or file {shortened(str(path), 400)}."
            )
        found = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
    except OSError as error:
        raise ReferencePhotoError(
            f"References: {shortened(str(path), 400)} cannot be read "
            f"({error.strerror or error}). Check the path and its permissions."
        ) from error
    stems = {file.stem for file in found}
    files = sorted(file for file in found if not _is_mask(file, stems))
    if not files:
        raise ReferencePhotoError(
            f"References: expected {', '.join(SUFFIXES)} photos in {path}, found none. "
            "Put one to five photos of your lab there."
        )
    return files


def used_photos(path: Path, most: int = MOST_PHOTOS) -> list[Path]:
    """The photos that are used: all, or ``most`` of them, evenly over their names.

    Raises:
        ReferencePhotoError: As :func:`photo_files`.
    """
    files = photo_files(path)
    if len(files) <= most:
        return files
    # The same places as numpy.linspace, rounded half to even.
    return [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]


def _is_mask(file: Path, stems: set[str]) -> bool:
    return any(
        file.stem.endswith(end) and file.stem.removesuffix(end) in stems for end in _MASK_ENDS
    )
