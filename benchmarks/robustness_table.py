"""The table and the plot of the robustness benchmark, from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot

from spie_robo.policies import wilson_interval

LABELS = {
    "raw": "raw frames", "randomized": "domain-randomised", "matched": "histogram-matched",
    "edited": "edited, base editor", "post-trained": "edited, post-trained",
    "mixed": "half raw, half edited", "randomized-mixed": "half randomised, half edited",
    "twin": "upper bound: twin frames of the lab",
}  # fmt: skip
ROW_LABELS = {"vanilla": "unchanged", "twin": "photoreal twin, unseen lab"}
COLORS = ("#8c8c8c", "#c9a227", "#7d8fb3", "#3a7ca5", "#d1495b", "#1b4965", "#7a5195", "#c8d5c0")


def pooled(
    cells: Sequence[dict[str, Any]], task: str, column: str, row: str
) -> tuple[float, tuple[float, float], float, int] | None:
    """Success rate over all seeds, its Wilson interval, deviation over seeds, and their number."""
    found = [c for c in cells if (c["task"], c["column"], c["row"]) == (task, column, row)]
    if not found:
        return None
    successes, trials = (sum(c[name] for c in found) for name in ("successes", "episodes"))
    rates = [c["successes"] / c["episodes"] for c in found]
    return successes / trials, wilson_interval(successes, trials), float(np.std(rates)), len(found)


def robustness_table(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str]
) -> str:
    """One table a task: success in per cent, with the 95 % interval (Wilson, seeds pooled)."""
    lines = []
    for task in sorted({cell["task"] for cell in cells}):
        mine = [cell for cell in cells if cell["task"] == task]
        seeds = len({cell["seed"] for cell in mine})
        lines += [
            f"**{task}**: lab `{mine[0]['lab']}`, training seeds: {seeds}, {mine[0]['episodes']} "
            f"episodes a cell, {mine[0]['steps']} training steps",
            "",
            "| trained on: | " + " | ".join(LABELS[column] for column in columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for row in rows:
            shown = []
            for column in columns:
                found = pooled(mine, task, column, row)
                if found is None:
                    shown.append("")
                    continue
                rate, (low, high), deviation, count = found
                spread = f" ± {deviation:.0%}" if count > 1 else ""
                shown.append(f"{rate:.0%} [{low:.0%}, {high:.0%}]{spread}")
            lines.append(f"| {ROW_LABELS.get(row, row)} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def draw(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str], path: Path
) -> None:
    """Bars with Wilson intervals: one panel a task, one group a row."""
    tasks = sorted({cell["task"] for cell in cells})
    if not tasks:
        return
    figure, panels = pyplot.subplots(
        len(tasks), 1, figsize=(11, 3.1 * len(tasks)), squeeze=False, layout="constrained"
    )
    width = 0.8 / len(columns)
    for panel, task in zip(panels[:, 0], tasks, strict=True):
        for number, (column, color) in enumerate(zip(columns, COLORS, strict=True)):
            for place, row in enumerate(rows):
                found = pooled(cells, task, column, row)
                if found is None:
                    continue
                rate, (low, high), _, _ = found
                panel.bar(
                    place + (number - len(columns) / 2 + 0.5) * width, 100 * rate, 0.92 * width,
                    yerr=[[100 * (rate - low)], [100 * (high - rate)]], color=color, ecolor="#444",
                    error_kw={"linewidth": 0.8}, label=LABELS[column] if place == 0 else None,
                )  # fmt: skip
        panel.set_xticks(range(len(rows)), [ROW_LABELS.get(row, row) for row in rows], fontsize=8)
        panel.set_ylabel(f"{task}: success, %")
        panel.set_ylim(0, 100)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(ncols=3, fontsize=8, frameon=False, loc="lower left",
                        bbox_to_anchor=(0, 1.0))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
