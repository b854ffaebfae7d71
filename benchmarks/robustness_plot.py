"""The plots of the robustness benchmark, from its cells: what matters, and everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from robustness_table import LABELS, ROW_LABELS, pooled, rows_of, studies

COLORS = (
    "#8c8c8c",
    "#c9a227",
    "#7d8fb3",
    "#3a7ca5",
    "#52b788",
    "#d1495b",
    "#1b4965",
    "#a05195",
    "#d45087",
    "#ffa600",
    "#95d5b2",
    "#2d6a4f",
    "#c8d5c0",
)

OVERVIEW = {
    "raw": "#8c8c8c", "randomized": "#c9a227", "raw-labs": "#2d6a4f", "twin": "#c8d5c0",
}  # fmt: skip
"""Columns of the plot for the README: the two that everyone has, ours, and what can be had."""
UNCHANGED, TWIN = "vanilla", "twin"


def draw_overview(cells: Sequence[dict[str, Any]], rows: Sequence[str], path: Path) -> None:
    """Every task and lab unchanged and in the twin; below, each task's changes of look.

    Args:
        cells: Of all studies; those without colour augmentation are left out.
        rows: In the order to show.
        path: The picture to write.
    """
    whole = [
        mine for mine in studies(cells).values()
        if mine[0].get("color") and set(OVERVIEW) - {TWIN} <= {cell["column"] for cell in mine}
    ]  # fmt: skip
    found = {f"{mine[0]['task']}\n{mine[0]['lab']}": mine for mine in whole}
    if not found or len(found) < len(whole):
        return  # nothing to show yet, or several augmentations that one place cannot show
    looks = [row for row in rows if row not in (UNCHANGED, TWIN)]
    changed = {name: mine for name, mine in found.items() if rows_of(mine, looks)}
    width = math.lcm(2, max(1, len(changed)))
    layout = [[name for name in line for _ in range(width // len(line))]
              for line in ([UNCHANGED, TWIN], list(changed)) if line]  # fmt: skip
    figure, panels = pyplot.subplot_mosaic(
        layout, figsize=(11, 2.7 * len(layout) + 0.4), layout="constrained"
    )
    for row, title in ((UNCHANGED, "nothing changes"), (TWIN, "photoreal twin of an unseen lab")):
        _bars(panels[row], list(OVERVIEW.items()), [(name, found[name], row) for name in found])
        panels[row].set_title(title, fontsize=10)
    for name, mine in changed.items():
        groups = [(row, mine, row) for row in rows_of(mine, looks)]
        columns = [(c, color) for c, color in OVERVIEW.items() if c != TWIN]
        _bars(panels[name], columns, groups)
        panels[name].set_title(f"{mine[0]['task']}: changes of look", fontsize=10)
        pyplot.setp(panels[name].get_xticklabels(), rotation=25, ha="right")
    for panel in panels.values():
        panel.set_ylabel("success, %", fontsize=8)
    handles = [Patch(color=color) for color in OVERVIEW.values()]
    figure.legend(
        handles, [LABELS[c] for c in OVERVIEW], loc="outside upper center", ncols=4, fontsize=9,
        frameon=False,
    )  # fmt: skip
    _save(figure, path)


def draw_all(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str], path: Path
) -> None:
    """Every cell: one panel a study, one group a row."""
    found = studies(cells)
    if not found:
        return
    figure, panels = pyplot.subplots(
        len(found), 1, figsize=(11, 3.1 * len(found)), squeeze=False, layout="constrained"
    )
    shown = list(zip(columns, COLORS, strict=True))
    for panel, (name, mine) in zip(panels[:, 0], found.items(), strict=True):
        groups = [(ROW_LABELS.get(row, row), mine, row) for row in rows_of(mine, rows)]
        _bars(panel, shown, groups)
        panel.set_ylabel(name.replace(", ", ",\n") + ":\nsuccess, %", fontsize=8)
    handles = [Patch(color=color) for color in COLORS]
    panels[0, 0].legend(handles, [LABELS[c] for c in columns], ncols=3, fontsize=8, frameon=False,
                        loc="lower left", bbox_to_anchor=(0, 1.0))  # fmt: skip
    _save(figure, path)


def _bars(
    panel: Axes,
    columns: Sequence[tuple[str, str]],
    groups: Sequence[tuple[str, Sequence[dict[str, Any]], str]],
) -> None:
    """Success of columns and their colours, in groups of (label, cells, row), with intervals."""
    measured = [
        [(color, found) for column, color in columns if (found := pooled(cells, column, row))]
        for _, cells, row in groups
    ]
    width = 0.8 / max(len(bars) for bars in measured)
    for place, bars in enumerate(measured):
        for number, (color, (rate, (low, high), _, _)) in enumerate(bars):
            panel.bar(
                place + (number - len(bars) / 2 + 0.5) * width, 100 * rate, 0.92 * width,
                yerr=[[100 * (rate - low)], [100 * (high - rate)]], color=color, ecolor="#444",
                error_kw={"linewidth": 0.8},
            )  # fmt: skip
    panel.set_xticks(range(len(groups)), [label for label, _, _ in groups], fontsize=8)
    panel.set_ylim(0, 100)
    panel.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
