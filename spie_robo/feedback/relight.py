"""Relight a frame: the target of an edit outside its region."""

from __future__ import annotations

import numpy as np

from spie_robo.feedback.records import Mask
from spie_robo.types import RGB


def relit(frame: RGB, edit: RGB, region: Mask | None) -> RGB:
    """Return a frame in the light of an edit of it.

    Each channel is multiplied by one factor, so that its mean outside the region equals the edit's.
    Outlines, shading and relative colours stay as in the frame; brightness and warmth become the
    edit's.

    Args:
        frame: uint8, (H, W, 3).
        edit: uint8, (H, W, 3).
        region: bool, (H, W), the part that the edit should change. None, or True everywhere,
            returns the frame itself, because there is no pixel left to measure the light on.

    Returns:
        uint8, (H, W, 3), the whole frame, relit also inside the region.
    """
    if region is None or region.all():
        return frame
    before = frame[~region].mean(axis=0, dtype=np.float64)
    after = edit[~region].mean(axis=0, dtype=np.float64)
    factors = after / np.maximum(before, 1.0)
    scaled: RGB = np.clip(np.rint(frame * factors), 0, 255).astype(np.uint8)
    return scaled
