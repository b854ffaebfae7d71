"""PNG and JPEG pictures inside data sets: their size is looked at before they are unpacked."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from spie_robo.data.formats import limits
from spie_robo.errors import StoreCorruptError


def picture_size(where: str, data: bytes) -> tuple[int, int]:
    """(height, width) of a picture, from its header alone.

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


def decode_picture(where: str, data: bytes) -> NDArray[np.uint8]:
    """A picture, uint8, (height, width, 3).

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
