"""The frame in a lab's light: what an edit should stay like where nothing is to change."""

from __future__ import annotations

import numpy as np

from spie_robo.feedback.records import Mask
from spie_robo.types import RGB


def relit(frame: RGB, edit: RGB, region: Mask | None) -> RGB:
    """A frame in the light of an edit of it.

    Each channel is multiplied by one factor, so that its mean outside the region is the edit's.
    Objects keep their outlines, shading and colours relative to each other, as in the frame; how
    bright and how warm they are is the edit's.

    Args:
        frame: uint8, (H, W, 3).
        edit: uint8, of the same size.
        region: bool, (H, W): what the edit was to change. None, or True everywhere: the frame
            itself comes back, as there is nothing to measure the light on.

    Returns:
        uint8, (H, W, 3); the whole frame, inside the region too.
    """
    if region is None or region.all():
        return frame
    before = frame[~region].mean(axis=0, dtype=np.float64)
    after = edit[~region].mean(axis=0, dtype=np.float64)
    factors = after / np.maximum(before, 1.0)
    scaled: RGB = np.clip(np.rint(frame * factors), 0, 255).astype(np.uint8)
    return scaled
