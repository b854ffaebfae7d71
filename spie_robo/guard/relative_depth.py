"""Depth without scale: what depth that is read off a picture can be compared in.

Feedback scores edits by it, and the geometry judge is trained and rated with it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SCALE_FLOOR = 1e-3


def normalised_depth(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Remove offset and scale: subtract the median, divide by the mean absolute deviation.

    Args:
        values: float, any shape; log depth, most often.
        valid: Pixels that the statistics are taken over; all if None.

    Returns:
        float32 of the same shape, no unit.
    """
    known = values if valid is None else values[valid]
    median = np.median(known)
    deviation = max(float(np.abs(known - median).mean()), SCALE_FLOOR)
    return ((values - median) / deviation).astype(np.float32)


def depth_error(estimate: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean absolute difference of two maps, each without its own offset and scale.

    Args:
        estimate: float32, (H, W): log depth read off a picture.
        truth: float32, (H, W): log depth of the scene; non-finite where unknown.

    Returns:
        0 or more, no unit; NaN where no depth is known.
    """
    valid = np.isfinite(truth)
    if not valid.any():
        return math.nan
    difference = normalised_depth(estimate, valid)[valid] - normalised_depth(truth, valid)[valid]
    return float(np.abs(difference).mean())
