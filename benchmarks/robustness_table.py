"""The table and the plot of the robustness benchmark, from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from spie_robo.policies import wilson_interval

LABELS = {
    "raw": "raw frames", "randomized": "domain-randomised", "matched": "histogram-matched",
    "edited": "edited, base editor", "edited-labs": "edited into ten other labs",
    "post-trained": "edited, post-trained",
    "mixed": "half raw, half edited", "randomized-raw": "half randomised, half raw",
    "randomized-mixed": "half randomised, half edited",
    "randomized-post-trained": "half randomised, half edited, post-trained",
    "randomized-labs": "half randomised, half edited into ten other labs",
    "raw-labs": "half raw, half edited into ten other labs",
    "twin": "upper bound: twin frames of the lab",
}  # fmt: skip
ROW_LABELS = {"vanilla": "unchanged", "twin": "photoreal twin, unseen lab"}
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
    "#2d6a4f",
    "#95d5b2",
    "#c8d5c0",
)


def pooled(
    cells: Sequence[dict[str, Any]], column: str, row: str
) -> tuple[float, tuple[float, float], float, int] | None:
    """Success rate over all seeds, its Wilson interval, deviation over seeds, and their number."""
    found = [c for c in cells if (c["column"], c["row"]) == (column, row)]
    if not found:
        return None
    successes, trials = (sum(c[name] for c in found) for name in ("successes", "episodes"))
    rates = [c["successes"] / c["episodes"] for c in found]
    return successes / trials, wilson_interval(successes, trials), float(np.std(rates)), len(found)


def studies(cells: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each task, lab and colour augmentation, by what a reader calls them."""
    found: dict[str, list[dict[str, Any]]] = {}
    several = len({cell["lab"] for cell in cells}) > 1
    for cell in sorted(cells, key=lambda cell: (cell["task"], cell.get("color", 0), cell["lab"])):
        color = cell.get("color", 0.0)
        parts = [cell["task"], *([f"colour augmentation {color:g}"] if color else [])]
        name = ", ".join([*parts, *([cell["lab"]] if several else [])])
        found.setdefault(name, []).append(cell)
    return found


def rows_of(cells: Sequence[dict[str, Any]], rows: Sequence[str]) -> list[str]:
    """Those of ``rows`` that were measured."""
    return [row for row in rows if any(cell["row"] == row for cell in cells)]


def robustness_table(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str]
) -> str:
    """One table a study, a line for each kind of training frames.

    Success in per cent, its 95 % interval (Wilson, seeds pooled), the deviation over seeds, and
    the number of seeds where it is not that of the study.
    """
    lines = []
    for name, mine in studies(cells).items():
        seeds = max(pooled(mine, cell["column"], cell["row"])[3] for cell in mine)  # type: ignore[index]
        looks = rows_of(mine, rows)
        lines += [
            f"**{name}**: lab `{mine[0]['lab']}`, training seeds: {seeds} unless said otherwise, "
            f"{mine[0]['episodes']} episodes a cell, {mine[0]['steps']} training steps",
            "",
            "| trained on: | " + " | ".join(ROW_LABELS.get(look, look) for look in looks) + " |",
            "|---" * (len(looks) + 1) + "|",
        ]
        for column in columns:
            if any(cell["column"] == column for cell in mine):
                shown = [_cell(mine, column, look, seeds) for look in looks]
                lines.append(f"| {LABELS[column]} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(cells: Sequence[dict[str, Any]], column: str, row: str, seeds: int) -> str:
    found = pooled(cells, column, row)
    if found is None:
        return ""
    rate, (low, high), deviation, count = found
    spread = f" ± {deviation:.0%}" if count > 1 else ""
    fewer = f" ({count} seed{'s' * (count > 1)})" if count < seeds else ""
    return f"{rate:.0%} [{low:.0%}, {high:.0%}]{spread}{fewer}"


def draw(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str], path: Path
) -> None:
    """Bars with Wilson intervals: one panel a study, one group a row."""
    found = studies(cells)
    if not found:
        return
    figure, panels = pyplot.subplots(
        len(found), 1, figsize=(11, 3.1 * len(found)), squeeze=False, layout="constrained"
    )
    for panel, (name, mine) in zip(panels[:, 0], found.items(), strict=True):
        _draw_study(panel, mine, columns, rows_of(mine, rows))
        panel.set_ylabel(name.replace(", ", ",\n") + ":\nsuccess, %", fontsize=8)
    handles = [Patch(color=color) for color in COLORS[: len(columns)]]
    panels[0, 0].legend(handles, [LABELS[c] for c in columns], ncols=3, fontsize=8, frameon=False,
                        loc="lower left", bbox_to_anchor=(0, 1.0))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_study(
    panel: Axes, cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str]
) -> None:
    width = 0.8 / len(columns)
    for number, (column, color) in enumerate(zip(columns, COLORS, strict=True)):
        for place, row in enumerate(rows):
            found = pooled(cells, column, row)
            if found is None:
                continue
            rate, (low, high), _, _ = found
            panel.bar(
                place + (number - len(columns) / 2 + 0.5) * width, 100 * rate, 0.92 * width,
                yerr=[[100 * (rate - low)], [100 * (high - rate)]], color=color, ecolor="#444",
                error_kw={"linewidth": 0.8},
            )  # fmt: skip
    panel.set_xticks(range(len(rows)), [ROW_LABELS.get(row, row) for row in rows], fontsize=8)
    panel.set_ylim(0, 100)
    panel.spines[["top", "right"]].set_visible(False)
