"""Regions: which part of a frame should look like which part of a photo.

From the simulator's segmentation, by object name; from mask PNGs beside the photos; from a phrase,
through a segmenter; or none: the whole image.
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
    """The region of a frame that should look like the photos.

    Args:
        frame: A raw frame.
        config: ``region`` says where the region comes from. For ``masks`` it is given by
            ``region_names`` if there are any, else it is the whole frame.
        segmenter: For ``phrase``.

    Returns:
        bool, of the frame's size and never empty, or None for the whole frame.

    Raises:
        FrameError: If a name is unknown, or nothing of the region is visible.
        ConfigError: If ``phrase`` is asked for without a segmenter, or ``surroundings`` was not
            resolved for the data set.
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
    """The frames in which the region is visible, with :func:`frame_region` of each.

    Args:
        frames: Raw frames.
        config: Where the region comes from.
        segmenter: For ``phrase``.

    Returns:
        Those frames, their regions, and a line for people on the others; empty if there are none.

    Raises:
        FrameError: If the region is visible in none of them.
        ConfigError: As :func:`frame_region`.
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
    """All pixels of the objects called so in the simulator's segmentation.

    Args:
        frame: A frame with segmentation and names.
        names: Names, of one or several words; case, and whether words are joined by a space, a
            hyphen or an underscore, do not matter.

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
    """The region of each reference photo that counts.

    Args:
        files: The photos' files.
        images: The same photos as ``read_photo`` gives them.
        config: For ``masks``, ``NAME.jpg`` has ``NAME.mask.png`` or ``NAME_mask.png`` beside it,
            white inside the region; for ``names`` such a file is used where there is one.
        segmenter: For ``phrase``.

    Returns:
        One mask a photo, of its size and never empty, or None for the whole photo.

    Raises:
        ReferencePhotoError: If a mask is missing, unreadable, empty or of another shape than
            its photo, or the phrase is not found in a photo.
        ConfigError: If ``phrase`` is asked for without a segmenter.
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
    """Whether a file is, by its name, the mask of a photo and no photo itself."""
    return file.name.lower().endswith(_MASK_SUFFIXES)


def find_mask(photo: Path) -> Path | None:
    """The mask file beside a photo, or None."""
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
    """Read a mask PNG and bring it to the size of its photo.

    Args:
        file: Grey, colour or black and white; from mid-grey on it counts as inside.
        image: Its photo, uint8 (height, width, 3).

    Raises:
        ReferencePhotoError: If it cannot be read, is empty, or has another aspect ratio.
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
    """Crop and resize a photo's region as ``cover`` does the photo; the share of each pixel inside.

    Args:
        region: bool, of the photo's size.
        height: Of the result.
        width: Of the result.

    Returns:
        float32, (height, width), 0 to 1: a small region of a large photo must not vanish.
    """
    image = np.repeat(region[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    return (cover(image, height, width)[..., 0] / 255.0).astype(np.float32)


def patch_region(region: NDArray[np.bool_ | np.float32], height: int, width: int) -> Mask:
    """Reduce a region of pixels to a grid of patches.

    Args:
        region: (H, W), bool or the share of each pixel inside; not empty.
        height: Patches from top to bottom.
        width: Patches from left to right.

    Returns:
        bool, (height, width): the patches with at least half of their area inside; if no patch
        has as much, the one with the largest share. Never empty.
    """
    if not region.any():
        raise ValueError("Expected a region with something inside, got an empty one.")
    share = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = share >= 0.5 - 1e-6  # half, whatever the area filter's weights rounded to
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
