"""Find the reference photos in a folder, and choose those to use.

All commands use one rule: at most :data:`MOST_PHOTOS`, evenly over the order of their names. Other
files in the folder are not read.
"""

from __future__ import annotations

from pathlib import Path

from spie_robo.errors import ReferencePhotoError
from spie_robo.settings.wording import shortened

MOST_PHOTOS = 20
"""Most photos to use: an edit follows one of them, so that more add time and hardly any look."""

SUFFIXES = (".jpg", ".jpeg", ".png")
_MASK_ENDS = (".mask", "_mask")


def photo_files(path: Path) -> list[Path]:
    """List the photos of a folder, sorted by name, or the one file.

    Region masks beside their photos (``desk.mask.png`` or ``desk_mask.png`` for ``desk.jpg``, see
    :mod:`spie_robo.feedback.regions`) are not photos.

    Raises:
        ReferencePhotoError: If there is no such folder or file, it cannot be read, or it has no
            photo.
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
    """List the photos to use: all, or ``most`` of them, evenly over their names.

    Raises:
        ReferencePhotoError: As for :func:`photo_files`.
    """
    files = photo_files(path)
    if len(files) <= most:
        return files
    # Take the same places as numpy.linspace, rounded half to even.
    return [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]


def _is_mask(file: Path, stems: set[str]) -> bool:
    return any(
        file.stem.endswith(end) and file.stem.removesuffix(end) in stems for end in _MASK_ENDS
    )


def photo_key(references: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Return a key that changes when one of the used photos does.

    Args:
        references: Folder or file of the photos.
    """
    stats = [(file, file.stat()) for file in used_photos(Path(references))]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
