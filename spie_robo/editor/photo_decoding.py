"""One photo file to one picture in sRGB: size, depth of colour, colour profile, transparency.

``file -> decode_photo() -> DecodedPhoto``. Phones write Display P3, cameras Adobe RGB: their
numbers mean other colours than sRGB's, so they are converted with the profile in the file.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.types import RGB, check_image

_MAX_SIDE = 2048  # longer photos are shrunk while they are decoded: no editor works that large
_MAX_PIXELS = 64_000_000  # of a PNG, or of a JPEG as it is decoded
_MAX_HEADER_PIXELS = 400_000_000  # of a JPEG before that: a progressive one keeps 3 bytes a pixel
_PILLOWS_LIMIT = threading.Lock()


@final
@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photo as it is meant to look.

    Attributes:
        image: uint8 (height, width, 3), sRGB, upright, without alpha, its longer side at most
            about 2048 pixels.
        note: What could not be done as the file asks; empty if all could.
    """

    image: RGB
    note: str = ""


def decode_photo(path: Path) -> DecodedPhoto:
    """Read one photo.

    Args:
        path: A JPEG or PNG file.

    Raises:
        ReferencePhotoError: If the file cannot be decoded, is tiny, or unpacks to gigabytes.
    """
    try:
        with _our_own_limit(), Image.open(path, formats=("JPEG", "PNG")) as opened:
            _require_modest(path, opened.size, _MAX_HEADER_PIXELS)
            opened.draft("RGB", (_MAX_SIDE, _MAX_SIDE))  # JPEG decodes at 1/2, 1/4, 1/8 for free
            _require_modest(path, opened.size, _MAX_PIXELS)
            profile = opened.info.get("icc_profile")
            upright = ImageOps.exif_transpose(_in_8_bits(opened))
            coloured, note = _in_srgb(path, upright, profile)
            flat = _flatten(coloured)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ReferencePhotoError(
            f"{path}: cannot be read as a JPEG or PNG photo ({error}). Export it again, or take "
            "it out of the folder."
        ) from error
    flat.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    image = np.asarray(flat, dtype=np.uint8)
    try:
        check_image(image, f"photo {path}")
    except FrameError as error:
        raise ReferencePhotoError(str(error)) from error
    return DecodedPhoto(image, note)


@contextmanager
def _our_own_limit() -> Iterator[None]:
    """Take Pillow's limit off, which looks at a JPEG's size before it is shrunk; ours stays."""
    with _PILLOWS_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _require_modest(path: Path, size: tuple[int, int], most: int) -> None:
    """Refuse a picture that unpacks to gigabytes, by its header."""
    if size[0] * size[1] > most:
        raise ReferencePhotoError(
            f"{path}: expected a photo of at most {most // 10**6} megapixels, its header "
            f"claims {size[0]}x{size[1]}. Export it smaller, or take it out of the folder."
        )


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits a channel, whose transparent value has 8 bits too.

    Pillow clips grey of 16 bits at 255 instead of scaling it, and compares 8 bits of colour with
    the 16 bits of the value that is transparent.
    """
    sixteen_bits = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        if transparent is not None:
            grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        exif = image.getexif()
        grey.info["exif"] = exif.tobytes() if exif else b""
        return grey
    if sixteen_bits and isinstance(transparent, tuple):
        image.load()
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image


def _in_srgb(path: Path, image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """Convert a picture with its colour profile; alpha is kept. Returns it and a note."""
    if not profile:
        return image, ""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip().lower().startswith("srgb"):
            return image, ""
        alpha = _alpha(image)
        plain = (
            image
            if image.mode in ("RGB", "CMYK", "L")
            else image.convert("L" if image.mode in ("L", "LA", "1") else "RGB")
        )
        converted = ImageCms.profileToProfile(
            plain, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, (
            f"{path}: its colour profile cannot be used ({error}), so its colours are read as "
            "sRGB and may be off. Export the photo again as sRGB."
        )
    if converted is None:  # pragma: no cover  # only where a picture is converted in place
        return image, ""
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, ""


def _alpha(image: Image.Image) -> Image.Image | None:
    """Return the alpha channel of a picture; None if it has none."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA").getchannel("A")
    return None


def _flatten(image: Image.Image) -> Image.Image:
    """Return a picture without alpha, on white."""
    if _alpha(image) is None:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
