"""The default limits of how far an edit may stray from the geometry of its frame.

``weights/budget.json`` is written by ``benchmarks/guard_calibration.py --write``; it holds the
limits and the rates that were measured with them.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, final

from spie_robo.errors import ConfigError

DEVIATION_NAMES: Final = (
    "outline",
    "moved_px",
    "resized_px",
    "warped_px",
    "inserted",
    "added",
    "swapped",
    "chroma_drift",
)
"""Every verdict holds these, in this order."""

AT_LEAST: Final = frozenset({"outline"})
"""Deviations that must reach their limit; the others must not exceed theirs."""

WIDER_WITHOUT_TRUTH: Final = 1.5
"""By which limits are wider for frames without geometry."""

_SAME_WITHOUT_TRUTH: Final = frozenset({"swapped", "chroma_drift"})

BUDGET_FILE: Final = Path(__file__).parent / "weights" / "budget.json"


@functools.lru_cache(maxsize=1)
def calibrated_limits() -> dict[str, float]:
    """The shipped limits, one for each of :data:`DEVIATION_NAMES`."""
    limits = json.loads(BUDGET_FILE.read_text())["limits"]
    return {name: float(limits[name]) for name in DEVIATION_NAMES}


def _calibrated(name: str) -> float:
    return field(default_factory=lambda: calibrated_limits()[name])


@final
@dataclass(frozen=True)
class GuardBudget:
    """The limits of a verdict. Each default is the calibrated one.

    Lengths are in pixels of a frame that is 128 pixels wide: a limit of 1 allows 2 pixels where
    the frame has 256. They are the least that was measured surely, so that 0 is common.

    Attributes:
        outline: Lowest share of any object's outline that the edit still draws in place, 0..1.
        moved_px: Farthest that any object, or the robot, may have moved.
        resized_px: Farthest that growing or shrinking may have moved any object's outline.
        warped_px: Farthest that the rims in any part of the picture may have moved together.
        inserted: Most new structure at a place of a smooth surface; 1 is about what the surface
            has everywhere.
        added: Most new structure at any place; 1 is about what the picture has at many places.
        swapped: How surely two objects may have exchanged their colours: -1 where each has kept
            its own, 1 where each has the other's.
        chroma_drift: Highest change of a protected object's mean colour in the a*b* plane of
            CIELAB (about 2 is just visible).

    Raises:
        ConfigError: If a limit is no finite number, or out of its range.
    """

    outline: float = _calibrated("outline")
    moved_px: float = _calibrated("moved_px")
    resized_px: float = _calibrated("resized_px")
    warped_px: float = _calibrated("warped_px")
    inserted: float = _calibrated("inserted")
    added: float = _calibrated("added")
    swapped: float = _calibrated("swapped")
    chroma_drift: float = _calibrated("chroma_drift")

    def limit(self, name: str, without_truth: bool = False) -> float:
        """The limit that holds for a frame.

        Without depth and segmentation nothing says which edges are rims and which are paint that a
        new look may replace: highest limits are then half as high again, lowest ones lower by as
        much.

        Args:
            name: One of :data:`DEVIATION_NAMES`.
            without_truth: Whether the frame came without geometry.
        """
        limit = float(getattr(self, name))
        if not without_truth or name in _SAME_WITHOUT_TRUTH:
            return limit
        return limit / WIDER_WITHOUT_TRUTH if name in AT_LEAST else limit * WIDER_WITHOUT_TRUTH

    def __post_init__(self) -> None:
        """Validate the limits."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            lowest = -1.0 if limit.name == "swapped" else 0.0
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < lowest:
                raise ConfigError(
                    f"{limit.name}: expected a number of {lowest:g} or more, got {value!r}. A "
                    "large one, such as 1e9, switches a highest value off, 0 a lowest."
                )
            if limit.name in AT_LEAST and value > 1:
                raise ConfigError(f"{limit.name}: expected 0 to 1, got {value}.")
