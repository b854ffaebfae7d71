"""Pictures inside data sets: their size is looked at before they are unpacked."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from spie_robo.data.formats import limits
from spie_robo.errors import StoreCorruptError, StoreError


def picture_size(where: str, data: bytes) -> tuple[int, int]:
    """Read (height, width) of a picture from its header alone.

    Raises:
        StoreError: If it claims too much.
        StoreCorruptError: If it is no PNG or JPEG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as header:
            width, height = header.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise StoreCorruptError(f"{where}: a picture is damaged ({error}).") from error
    limits.check_array(where, (1, height, width, 3), np.uint8)
    return height, width


def decode_grey(where: str, data: bytes) -> NDArray[np.uint8]:
    """Return a picture of one channel, uint8, (height, width).

    Raises:
        StoreError: If it claims too much.
        StoreCorruptError: If it cannot be decoded.
    """
    size = picture_size(where, data)
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if grey is None or grey.shape != size:
        raise StoreCorruptError(f"{where}: a picture cannot be decoded.")
    return np.asarray(grey, np.uint8)


def decode_depth(where: str, data: bytes) -> NDArray[Any]:
    """Read depth from a TIFF or 16-bit PNG picture, uint16 or float32, (height, width).

    Raises:
        StoreError: If it claims too much, or is no picture of one channel of such numbers.
        StoreCorruptError: If it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF", "PNG")) as picture:
            limits.check_array(where, (1, picture.height, picture.width), np.float32)
            pixels = np.asarray(picture)
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, KeyError) as error:
        raise StoreCorruptError(f"{where}: a picture is damaged ({error}).") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
        raise StoreError(
            f"{where}: expected depth as a picture of one channel, got {pixels.dtype} of shape "
            f"{pixels.shape}."
        )
    return pixels.astype(np.float32 if pixels.dtype.kind == "f" else np.uint16)


def decode_picture(where: str, data: bytes) -> NDArray[np.uint8]:
    """Return a picture, uint8, (height, width, 3).

    Raises:
        StoreError: If it claims too much.
        StoreCorruptError: If it cannot be decoded.
    """
    size = picture_size(where, data)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if bgr is None or bgr.shape[:2] != size:
        raise StoreCorruptError(f"{where}: a picture cannot be decoded.")
    return np.ascontiguousarray(bgr[..., ::-1])
