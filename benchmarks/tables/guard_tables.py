"""Tables of the guard: its limits, what it rejects and what it catches, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tables.markdown import median_of, table

Cells = Mapping[str, Mapping[str, Sequence[float]]]
"""Row and kind of edit to (rejected, judged, lowest and highest rate of the interval)."""

SIMULATORS = {
    "own": "own tasks",
    "fetch": "Fetch",
    "metaworld": "Meta-World",
    "robosuite_Lift": "robosuite Lift",
    "robosuite_PickPlace": "robosuite PickPlace",
    "panda_gym": "panda-gym",
    "aloha": "gym-aloha",
    "all": "**all**",
}
KINDS = {
    "frame shifted 2 %": "frame shifted 2 %",
    "warped 3 %": "warped 3 %",
    "shifted 2 %": "object shifted 2 %",
    "shifted 4 %": "shifted 4 %",
    "scaled +10 %": "scaled +10 %",
    "scaled -10 %": "scaled -10 %",
    "scaled +10 %, radius 4 px or more": "+10 %, large",
    "scaled -10 %, radius 4 px or more": "-10 %, large",
    "removed": "removed",
    "melted": "melted",
    "swapped": "swapped",
    "inserted": "inserted",
    "inserted, own colour": "inserted, own colour",
}


def limit_table(result: Mapping[str, Any]) -> str:
    """The calibrated limits."""
    rows = [(f"`{name}`", f"{limit:g}") for name, limit in result["limits"].items()]
    return table(["deviation", "limit"], rows)


def false_reject_table(result: Mapping[str, Any]) -> str:
    """Harmless edits that are rejected, a row a simulator."""
    found: Cells = result["rejected"]
    sides = [(size, truth) for truth in ("with", "without") for size in (128, 256)]
    head = [f"{size} px, {truth} geometry: relit, restyled" for size, truth in sides]
    rows = []
    for simulator, name in SIMULATORS.items():
        of_sides = [found.get(f"{simulator}, {size} px, {truth}", {}) for size, truth in sides]
        pairs = [f"{_count(of, 'relit')}, {_count(of, 'restyled')}" for of in of_sides]
        rows.append([name, *pairs])
    return table(["simulator", *head], rows)


def catch_table(result: Mapping[str, Any], size: int, truth: str) -> str:
    """Harmful edits that are caught, of relit and of restyled frames, a row a simulator."""
    found: Cells = result["rejected"]
    rows = []
    for simulator, name in SIMULATORS.items():
        of = found.get(f"{simulator}, {size} px, {truth}", {})
        pairs = [
            f"{_share(of, f'{kind} / relit')}, {_share(of, f'{kind} / restyled')}" for kind in KINDS
        ]
        rows.append([name, *pairs])
    return table([f"{size} px, {truth} geometry", *KINDS.values()], rows)


def cost_table(result: Mapping[str, Any]) -> str:
    """CPU milliseconds a frame, of this guard and of the one before it."""
    rows = [(name, median_of(values, 1)) for name, values in result["milliseconds_a_frame"].items()]
    return table(["guard, frames", "CPU milliseconds a frame, median (least to most)"], rows)


def embedded_table(result: Mapping[str, Any]) -> str:
    """Edits of the embedded editor that are rejected."""
    rows = [
        (SIMULATORS[simulator], f"{hits:g} of {total:g}")
        for simulator, (hits, total, *_) in result["embedded_rejected"]["128 px"].items()
    ]
    return table(["embedded edits, 128 px", "rejected"], rows)


def _count(of: Mapping[str, Sequence[float]], kind: str) -> str:
    cell = of.get(kind)
    return "-" if cell is None else f"{cell[0]:g}/{cell[1]:g}"


def _share(of: Mapping[str, Sequence[float]], kind: str) -> str:
    cell = of.get(kind)
    return "-" if cell is None else f"{100 * cell[0] / cell[1]:.0f}"
