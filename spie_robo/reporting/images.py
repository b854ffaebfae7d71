"""Frames as small data URIs, and the simulator's outlines as SVG paths."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.types import RGB

LONGEST_SIDE = 480
"""Larger frames are shrunk to this many pixels; smaller ones are kept as they are."""

QUALITY = 92


def data_uri(rgb: RGB, longest_side: int = LONGEST_SIDE) -> str:
    """Return a frame as a ``data:`` address: WebP where OpenCV has it, otherwise JPEG.

    Args:
        rgb: uint8, (height, width, 3).
        longest_side: Larger frames are shrunk to this many pixels.
    """
    scale = longest_side / max(rgb.shape[:2])
    if scale < 1:
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rgb = np.asarray(small, np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if cv2.haveImageWriter(".webp"):
        kind, (_, buffer) = "webp", cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    else:
        kind, (_, buffer) = "jpeg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/{kind};base64,{base64.b64encode(buffer.tobytes()).decode('ascii')}"


def outline_path(segmentation: NDArray[np.integer[Any]]) -> str:
    """Return the borders between segments, along pixel edges, as the ``d`` of an SVG path.

    Args:
        segmentation: Integer ids, (height, width).

    Returns:
        Horizontal and vertical lines in pixels, (0, 0) being the top-left corner of the image.
    """
    lines = []
    for row, start, stop in _runs(segmentation[1:] != segmentation[:-1]):
        lines.append(f"M{start} {row + 1}H{stop}")
    for column, start, stop in _runs((segmentation[:, 1:] != segmentation[:, :-1]).T):
        lines.append(f"M{column + 1} {start}V{stop}")
    return "".join(lines)


def _runs(border: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return runs of True in each row: (row, first, one after the last)."""
    padded = np.pad(border.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    return [(int(r), int(a), int(b)) for r, a, b in zip(rows, starts, stops, strict=True)]
