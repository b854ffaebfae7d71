"""Measure flicker: the change of edits from frame to frame where the scene does not change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spie_robo.errors import FrameError
from spie_robo.types import RGB

_STATIC = 2
"""Largest change of a static raw pixel, grey levels."""


def flicker(frames: Sequence[RGB], edits: Sequence[RGB]) -> float:
    """Return the mean absolute change of successive edits in pixels that are static when raw.

    Args:
        frames: The raw frames of one camera in order, uint8, (H, W, 3) each.
        edits: Edit of each frame.

    Returns:
        Grey levels (0..255) a step; NaN with one frame, or if no pixel is ever static.

    Raises:
        FrameError: If numbers or shapes differ.
    """
    if len(frames) != len(edits):
        raise FrameError(f"Expected one edit a frame: {len(frames)} frames, {len(edits)} edits.")
    total, count = 0.0, 0
    for index in range(1, len(frames)):
        if frames[index].shape != edits[index].shape:
            raise FrameError(
                f"Edit {index}: expected shape {frames[index].shape}, got {edits[index].shape}."
            )
        moved = np.abs(frames[index].astype(np.int16) - frames[index - 1]).max(axis=2)
        change = np.abs(edits[index].astype(np.int16) - edits[index - 1]).mean(axis=2)
        static = moved <= _STATIC
        total += float(change[static].sum())
        count += int(static.sum())
    return total / count if count else math.nan
