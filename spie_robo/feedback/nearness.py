"""Measure how much nearer to the photos edits are, in one figure and one scale.

``spie-robo train`` compares an adapter with its base, ``spie-robo evaluate`` an editor with the raw
frames; both say by which share of itself the distance to the photos became smaller. It cannot
exceed 100 %. The distance of the photos to each other is reported beside it and never divided by:
the share of the way to *that* changes with the photos, and passes 100 % where they differ a lot.
"""

from __future__ import annotations

import math
from typing import Literal


def nearer(before: float, after: float, better: Literal["lower", "higher"] = "lower") -> float:
    """Return the share by which a distance became smaller; below 0 if it grew.

    Args:
        before: The score that is compared with.
        after: The score of the edits.
        better: ``"lower"`` for a distance, ``"higher"`` for a similarity of at most 1.

    Returns:
        1 - after / before, of distances; NaN where there was none.
    """
    if better == "higher":
        before, after = 1 - before, 1 - after
    return 1 - after / before if before > 0 else math.nan


def nearer_in_words(share: float) -> str:
    """Say ``17 % nearer``, or ``3 % farther``; empty for NaN."""
    if not math.isfinite(share):
        return ""
    return f"{abs(share):.0%} {'farther' if share < 0 else 'nearer'}".replace("%", " %")
