r"""Does the edited simulator predict success in reality better than the raw one?

Reality is the photoreal twin of a lab that no training saw. The policies are those of
``benchmarks/robustness.py``, which must have run before: as many kinds of training frames as were
run in all three rows, so that they differ in quality. Their success in the raw simulator, and in
the simulator as the base editor makes it look, is compared with that in the twin.

    python benchmarks/robustness.py --tasks Reach --steps 600 --color 0.3 \
        --out runs/robustness_color
    python benchmarks/proxy_fidelity.py --task Reach --runs runs/robustness_color

Writes the table as CSV too, for ``spie-robo evaluate-proxy``.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from harness import RESULTS, ROOT, report
from robustness import EDITED_SIM, TWIN

from spie_robo.evaluation.proxy import proxy_fidelity
from spie_robo.evaluation.proxy_csv import read_proxy_table
from spie_robo.evaluation.proxy_report import fidelity_as_json, format_fidelity, notes, verdict

COLUMNS = {"real": TWIN, "sim": "vanilla", "sim_edited": EDITED_SIM}


def policies(cells: Path) -> list[dict[str, str]]:
    """One row a policy that was run in all of them: its name, success rates and episodes."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for path in sorted(cells.glob("*.json")):
        cell = json.loads(path.read_text())
        name = f"{cell['column']}, seed {cell['seed']}"
        found.setdefault(name, {})[cell["row"]] = cell
    rows = []
    for name, by_row in found.items():
        if not set(COLUMNS.values()) <= by_row.keys():
            continue
        row = {"policy": name}
        for column, key in COLUMNS.items():
            cell = by_row[key]
            row[column] = f"{cell['successes'] / cell['episodes']:.4f}"
            row[f"{column}_episodes"] = str(cell["episodes"])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="Reach")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "robustness")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = policies(options.runs / options.task / "cells")
    if not rows:
        needed = ", ".join(COLUMNS.values())
        raise SystemExit(
            f"{options.runs}: no policy of {options.task} was run in {needed}. "
            "Run benchmarks/robustness.py with these rows first."
        )
    file = RESULTS / f"proxy_policies_{options.task.lower()}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = read_proxy_table(file)
    result = proxy_fidelity(table.real, table.simulators, seed=options.seed)
    lines = [format_fidelity(result), *notes(result), *map(verdict, result.comparisons)]
    report(
        f"proxy_fidelity_{options.task.lower()}", options.seed, fidelity_as_json(result, file.name),
        f"{len(rows)} policies in {options.task}, reality: the twin\n\n" + "\n".join(lines),
    )  # fmt: skip


if __name__ == "__main__":
    main()
