"""The tables of the robustness benchmark, from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
TASKS = ("Reach", "Push", "PickPlace")
"""From easy to hard, as they are shown."""
ROW_LABELS = {"vanilla": "unchanged", "twin": "photoreal twin, unseen lab"}


def pooled(
    cells: Sequence[dict[str, Any]], column: str, row: str
) -> tuple[float, tuple[float, float], float, int] | None:
    """Success rate over all seeds, its Wilson interval, sample deviation over seeds, their number.

    The interval is about test episodes, given these policies: seeds share the test episodes, and
    other seeds may differ by more, which the deviation says.
    """
    found = [c for c in cells if (c["column"], c["row"]) == (column, row)]
    if not found:
        return None
    successes, trials = (sum(c[name] for c in found) for name in ("successes", "episodes"))
    rates = [c["successes"] / c["episodes"] for c in found]
    spread = float(np.std(rates, ddof=1)) if len(rates) > 1 else 0.0
    return successes / trials, wilson_interval(successes, trials), spread, len(found)


def studies(cells: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each task, lab and colour augmentation, by what a reader calls them.

    Raises:
        ValueError: If cells of one study differ in steps or episodes, or two claim one place.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    several = len({cell["lab"] for cell in cells}) > 1
    for cell in sorted(cells, key=_place):
        color = cell.get("color", 0.0)
        parts = [cell["task"], *([f"colour augmentation {color:g}"] if color else [])]
        name = ", ".join([*parts, *([cell["lab"]] if several else [])])
        found.setdefault(name, []).append(cell)
    for name, mine in found.items():
        sizes = {(cell["steps"], cell["episodes"]) for cell in mine}
        places = {(cell["column"], cell["row"], cell["seed"]) for cell in mine}
        if len(sizes) > 1 or len(places) < len(mine):
            raise ValueError(
                f"{name}: expected cells of one study, got (steps, episodes) {sorted(sizes)} and "
                f"{len(mine)} cells in {len(places)} places."
            )
    return found


def _place(cell: dict[str, Any]) -> tuple[int, float, str]:
    return TASKS.index(cell["task"]), cell.get("color", 0.0), cell["lab"]


def rows_of(cells: Sequence[dict[str, Any]], rows: Sequence[str]) -> list[str]:
    """Those of ``rows`` that were measured."""
    return [row for row in rows if any(cell["row"] == row for cell in cells)]


def robustness_table(
    cells: Sequence[dict[str, Any]], columns: Sequence[str], rows: Sequence[str]
) -> str:
    """One table a study, a line for each kind of training frames.

    Success in per cent, its 95 % interval (Wilson, seeds pooled), the sample deviation over seeds,
    and the number of seeds where it is not that of the study.
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
