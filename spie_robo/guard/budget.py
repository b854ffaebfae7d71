"""How far an edit may stray from the geometry of its frame: the one place of the default limits.

``weights/budget.json`` is written by ``benchmarks/guard_calibration.py --write``; it holds the
limits and the false-reject and detection rates that were measured with them.
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
    "depth_error",
    "mask_iou",
    "boundary_f",
    "displacement_px",
    "chroma_drift",
    "edge_support",
    "inserted_px",
)
"""Every verdict holds these, in this order."""

AT_MOST: Final = {
    "depth_error": True,
    "mask_iou": False,
    "boundary_f": False,
    "displacement_px": True,
    "chroma_drift": True,
    "edge_support": False,
    "inserted_px": True,
}
"""True where a deviation must not exceed its limit, False where it must reach it."""

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

    Attributes:
        depth_error: Highest mean absolute difference of normalised log depth (no unit).
        mask_iou: Lowest overlap of any robot, object, goal or table silhouette, 0..1.
        boundary_f: Lowest boundary F-score of any class, 0..1.
        displacement_px: Farthest that any object's outline may have moved, in pixels of a
            128x128 image.
        chroma_drift: Highest change of a protected object's mean colour in the a*b* plane of
            CIELAB (about 2 is just visible).
        edge_support: Lowest ratio of the edges along an object's true outline to those along the
            outline moved or resized, 0 or more; 1 where both are equally likely.
        inserted_px: Largest area of an object that the frame does not have, in pixels of a
            128x128 image.

    Raises:
        ConfigError: If a limit is negative, not a number, or an overlap above 1.
    """

    depth_error: float = _calibrated("depth_error")
    mask_iou: float = _calibrated("mask_iou")
    boundary_f: float = _calibrated("boundary_f")
    displacement_px: float = _calibrated("displacement_px")
    chroma_drift: float = _calibrated("chroma_drift")
    edge_support: float = _calibrated("edge_support")
    inserted_px: float = _calibrated("inserted_px")

    def __post_init__(self) -> None:
        """Validate the limits."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ConfigError(
                    f"{limit.name}: expected a number of 0 or more, got {value!r}. A large one, "
                    "such as 1e9, switches a highest value off, 0 a lowest."
                )
            if limit.name in ("mask_iou", "boundary_f") and value > 1:
                raise ConfigError(f"{limit.name}: expected 0 to 1, got {value}.")
