"""Find the region of a frame that should look like a region of a photo.

A region comes from the simulator's segmentation, by object name; from mask PNGs beside the photos;
from a phrase, through a segmenter; or it is the whole image.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from spie_robo.editor.references import cover
from spie_robo.errors import ConfigError, FrameError, ReferencePhotoError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.segmenters import PhraseSegmenter
from spie_robo.feedback.records import Mask
from spie_robo.types import RGB, Frame

_MASK_SUFFIXES = (".mask.png", "_mask.png")
_ASPECT_TOLERANCE = 0.02


def frame_region(
    frame: Frame, config: FeedbackConfig, segmenter: PhraseSegmenter | None = None
) -> Mask | None:
    """Return the region of a frame that should look like the photos.

    Args:
        frame: A raw frame.
        config: Settings of the region. Kind ``masks`` uses ``region_names`` if there are any,
            else the whole frame.
        segmenter: Segmenter for ``phrase``.

    Returns:
        bool, (H, W), never empty; None for the whole frame.

    Raises:
        FrameError: If a name is unknown, or no part of the region is visible.
        ConfigError: If ``phrase`` has no segmenter, or ``surroundings`` was not resolved for the
            data set.
    """
    if config.region == "surroundings":
        raise ConfigError(
            "region 'surroundings': expected it to be resolved for all frames at once, with "
            "spie_robo.feedback.resolve_region."
        )
    if config.region == "phrase":
        return _needed(segmenter).segment(frame.rgb, config.region_phrase)
    return named_region(frame, config.region_names) if config.region_names else None


def visible_regions(
    frames: Sequence[Frame], config: FeedbackConfig, segmenter: PhraseSegmenter | None = None
) -> tuple[list[Frame], list[Mask | None], str]:
    """Return the frames that show the region, with :func:`frame_region` of each.

    Args:
        frames: Raw frames.
        config: Settings of the region.
        segmenter: Segmenter for ``phrase``.

    Returns:
        The frames, their regions, and a note on those left out; empty if there are none.

    Raises:
        FrameError: If no frame shows the region.
        ConfigError: As in :func:`frame_region`.
    """
    usable, regions, failure = [], [], None
    for frame in frames:
        try:
            regions.append(frame_region(frame, config, segmenter))
            usable.append(frame)
        except FrameError as error:
            failure = error
    if failure is None:
        return usable, regions, ""
    if not usable:
        raise failure
    left_out = len(frames) - len(usable)
    return usable, regions, f"{left_out} of {len(frames)} frames left out: {failure}"


def named_region(frame: Frame, names: Sequence[str]) -> Mask:
    """Return all pixels of the named objects in the simulator's segmentation.

    Args:
        frame: A frame with segmentation and names.
        names: Names of one or more words; case does not matter, nor whether a space, a hyphen or
            an underscore joins words.

    Raises:
        FrameError: If the frame has no named segmentation, a name is unknown, or none of the
            objects is visible.
    """
    geometry = frame.geometry
    if geometry is None or geometry.segmentation is None or not geometry.names:
        raise FrameError(
            f"Camera {frame.camera!r}: region 'names' needs the simulator's segmentation and "
            "its names, and this frame has none. Record them, or use another kind of region."
        )
    known: dict[str, list[int]] = {}
    for number, name in geometry.names.items():
        known.setdefault(_plain(name), []).append(number)
    wanted: list[int] = []
    for name in names:
        if _plain(name) not in known:
            raise FrameError(_unknown(name, frame, sorted(set(geometry.names.values()))))
        wanted += known[_plain(name)]
    mask = np.isin(geometry.segmentation, wanted)
    if not mask.any():
        numbers = np.unique(geometry.segmentation).tolist()
        visible = sorted({geometry.names[n] for n in numbers if n in geometry.names})
        raise FrameError(
            f"Camera {frame.camera!r}: nothing of {_listed(names)} is visible. Visible here: "
            f"{_listed(visible)}. Leave such frames out, or name something else."
        )
    return mask


def photo_regions(
    files: Sequence[Path],
    images: Sequence[RGB],
    config: FeedbackConfig,
    segmenter: PhraseSegmenter | None = None,
) -> list[Mask | None]:
    """Return the region of each reference photo that counts.

    Args:
        files: The photos' files.
        images: The same photos, read by ``read_photo``.
        config: For ``masks``, ``NAME.jpg`` has ``NAME.mask.png`` or ``NAME_mask.png`` beside it,
            white inside the region; for ``names`` such a file is used if it exists.
        segmenter: Segmenter for ``phrase``.

    Returns:
        One mask a photo, bool, of its size, never empty; None for the whole photo.

    Raises:
        ReferencePhotoError: If a mask is missing, unreadable, empty or of another shape than
            its photo, or a photo does not show the phrase.
        ConfigError: If ``phrase`` has no segmenter.
    """
    pairs = list(zip(files, images, strict=True))
    if config.region == "phrase":
        found = _needed(segmenter)
        return [_segmented(file, image, config.region_phrase, found) for file, image in pairs]
    if config.region == "masks":
        return [read_mask(_mask_file(file), image) for file, image in pairs]
    if config.region == "names":
        beside = [(find_mask(file), image) for file, image in pairs]
        return [None if mask is None else read_mask(mask, image) for mask, image in beside]
    return [None] * len(pairs)


def is_mask(file: Path) -> bool:
    """Return whether a file's name is that of a photo's mask."""
    return file.name.lower().endswith(_MASK_SUFFIXES)


def find_mask(photo: Path) -> Path | None:
    """Return the mask file beside a photo, or None."""
    candidates = [photo.with_name(photo.stem + suffix) for suffix in _MASK_SUFFIXES]
    return next((file for file in candidates if file.is_file()), None)


def _mask_file(photo: Path) -> Path:
    file = find_mask(photo)
    if file is None:
        expected = " or ".join(photo.stem + suffix for suffix in _MASK_SUFFIXES)
        raise ReferencePhotoError(
            f"{photo}: region 'masks' needs {expected} beside it, white inside the region. Paint "
            "one, or use another kind of region."
        )
    return file


def read_mask(file: Path, image: RGB) -> Mask:
    """Read a mask PNG and resize it to its photo.

    Args:
        file: PNG in grey, colour or black and white; mid-grey and brighter is inside.
        image: Photo of the mask, uint8 (height, width, 3).

    Raises:
        ReferencePhotoError: If the file cannot be read, is empty, or has another aspect ratio.
    """
    try:
        with Image.open(file, formats=("PNG",)) as opened:
            grey = np.asarray(ImageOps.exif_transpose(opened).convert("L"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ReferencePhotoError(f"{file}: cannot be read as a PNG mask ({error}).") from error
    height, width = image.shape[:2]
    aspect = (grey.shape[1] / grey.shape[0]) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        raise ReferencePhotoError(
            f"{file}: expected the shape of its photo, {height}x{width} pixels or the same at "
            f"another scale, got {grey.shape[0]}x{grey.shape[1]}."
        )
    mask = cv2.resize(grey, (width, height), interpolation=cv2.INTER_NEAREST) >= 128
    if not mask.any():
        raise ReferencePhotoError(f"{file}: the mask is empty. Paint the region white.")
    return mask


def _segmented(file: Path, image: RGB, phrase: str, segmenter: PhraseSegmenter) -> Mask:
    try:
        return segmenter.segment(image, phrase)
    except FrameError as error:
        raise ReferencePhotoError(f"{file}: {error}") from error


def _needed(segmenter: PhraseSegmenter | None) -> PhraseSegmenter:
    if segmenter is None:
        raise ConfigError("region 'phrase': expected a segmenter, got none. Build one first.")
    return segmenter


def cover_region(region: Mask, height: int, width: int) -> NDArray[np.float32]:
    """Crop and resize a photo's region as ``cover`` does the photo.

    Args:
        region: bool, (h, w) of the photo.
        height: Height of the result, pixels.
        width: Width of the result, pixels.

    Returns:
        float32, (height, width), the share of each pixel inside, 0 to 1. A share keeps small
        regions of large photos, which a bool mask would lose.
    """
    image = np.repeat(region[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    return (cover(image, height, width)[..., 0] / 255.0).astype(np.float32)


def patch_region(region: NDArray[np.bool_ | np.float32], height: int, width: int) -> Mask:
    """Reduce a region of pixels to a grid of patches.

    Args:
        region: (H, W), bool or the share of each pixel inside; not empty.
        height: Number of patches from top to bottom.
        width: Number of patches from left to right.

    Returns:
        bool, (height, width), patches with at least half of their area inside; if there is none,
        the one with the largest share. Never empty.
    """
    if not region.any():
        raise ValueError("Expected a region with something inside, got an empty one.")
    share = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = share >= 0.5 - 1e-6  # half, up to the rounding of the area filter
    if not inside.any():
        inside.flat[int(share.argmax())] = True
    return inside


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


def _unknown(name: str, frame: Frame, known: list[str]) -> str:
    by_plain = {_plain(other): other for other in known}
    close = difflib.get_close_matches(_plain(name), by_plain, n=1)
    hint = f" Did you mean {by_plain[close[0]]!r}?" if close else ""
    return (
        f"Camera {frame.camera!r}: no object is called {name!r}.{hint} This frame has: "
        f"{_listed(known)}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing with a name"
