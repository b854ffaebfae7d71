"""Names and meanings of the guard's measures, for people.

A store keeps a column and a limit for each measure under its name. What this table does not know,
of another guard or a later release, is shown under the name that the store has for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Measure:
    """The words for one measured deviation.

    Attributes:
        label: Its name, for a table.
        meaning: What it says, in one sentence.
        unit: Follows a number; ``"%"`` shows a share of 1 as percent.
        at_most: True if a value must not exceed its limit, False if it must reach it.
    """

    label: str
    meaning: str = ""
    unit: str = ""
    at_most: bool = True

    def number(self, value: float) -> str:
        """Return a value with its unit: ``83 %``, ``1.2 px``."""
        if self.unit == "%":
            return f"{100 * value:.3g} %"
        return f"{value:.3g} {self.unit}".strip()

    def limit(self, value: float | None) -> str:
        """Return a limit in words."""
        if value is None:
            return "not recorded"
        return f"{'at most' if self.at_most else 'at least'} {self.number(value)}"


_MEASURES: Mapping[str, Measure] = {
    # What the guard measures now.
    "outline": Measure(
        "Outlines kept",
        "The share of the worst object's outline that the edit still draws in its place.",
        "%",
        at_most=False,
    ),
    "moved_px": Measure(
        "Objects moved", "The farthest that an object or the robot has moved.", "px of 128"
    ),
    "resized_px": Measure(
        "Objects resized", "The farthest that growing or shrinking moved an outline.", "px of 128"
    ),
    "warped_px": Measure(
        "Picture warped",
        "The farthest that the rims in a part of the picture moved together.",
        "px of 128",
    ),
    "inserted": Measure(
        "Structure on smooth surfaces",
        "New structure where the scene is smooth; 1 is about what the surface has everywhere.",
    ),
    "added": Measure(
        "Structure added",
        "New structure at any place; 1 is about what the picture has at many places.",
    ),
    "swapped": Measure(
        "Colours exchanged",
        "How surely two objects have exchanged their colours, from -1 (kept) to 1 (exchanged).",
    ),
    "chroma_drift": Measure(
        "Colour drift",
        "The change of a protected object's colour; about 2 is just visible.",
    ),
    # Of earlier releases, whose stores stay readable.
    "depth_error": Measure(
        "Depth error",
        "How far the depth that is read from the edit lies from the scene's, without a unit.",
    ),
    "mask_iou": Measure(
        "Silhouettes overlap",
        "How much of the objects' silhouettes, read from the edit, lies on the true ones.",
        "%",
        at_most=False,
    ),
    "boundary_f": Measure(
        "Borders found",
        "The share of the true borders between objects that are found in the edit.",
        "%",
        at_most=False,
    ),
    "displacement_px": Measure(
        "Displacement", "How far the objects' silhouettes have moved.", "px"
    ),
    "edge_support": Measure(
        "Edges kept",
        "How strong the edit's edges are along the true ones; 1 is as strong as the raw frame's.",
        at_most=False,
    ),
    "inserted_px": Measure(
        "Edges inserted", "The length of the longest edge that the scene does not have.", "px"
    ),
}


def known_measure(name: str) -> Measure:
    """Return the words for a measure; plain ones for a name that is not known."""
    known = _MEASURES.get(name)
    if known is not None:
        return known
    words = name.removesuffix("_px").replace("_", " ").capitalize()
    return Measure(words, unit="px" if name.endswith("_px") else "")


def in_order(names: set[str]) -> tuple[str, ...]:
    """Return names of measures: known ones in the order of the table, then the others."""
    known = [name for name in _MEASURES if name in names]
    return (*known, *sorted(names - set(known)))
