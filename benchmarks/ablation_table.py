"""The ablations of post-training beside the settings that ship, at one epoch: a table a lab.

    python benchmarks/ablation_table.py

Reads what ``post_training.py`` left in ``results/post_training.json`` (the default) and
``results/post_training_draft_ablations.json``; computes nothing anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import RESULTS
from post_training import INDEPENDENT, closed, spread

LABELS = {
    "default": "default",
    "semantic-only": "semantic score alone",
    "structural-only": "structural score alone",
    "no-reconstruction": "no reconstruction outside the region",
    "monocular": "structure by the monocular judge",
    "one-photo": "one photo",
    "no-visual-prompt": "no visual prompt",
}
BASES = {"default": "base", "one-photo": "base, one photo", "no-visual-prompt": "base, no photo"}
"""Variants whose editor begins as another one: it is shown other photos."""

COLUMNS = (
    "variant", "gap closed", "gap closed, surfaces", "semantic, nearest", "structure, simulator",
    "structure, monocular", "KID x 1000", "KID, early", INDEPENDENT, "colour histogram", "accepted",
    "seeds",
)  # fmt: skip


def line(label: str, cells: Sequence[dict[str, Any]], epoch: int) -> str:
    """One row of the table: a variant after so many epochs."""
    rows = [cell["measured"][str(epoch)] for cell in cells]
    bases = [cell["measured"]["0"] for cell in cells]
    floor = cells[0]["floors"]["semantic_nearest"]
    shown = [
        closed("semantic_nearest", bases, rows, floor),
        closed("surfaces", bases, rows, floor),
        *(spread([row[name] for row in rows]) for name in (
            "semantic_nearest", "structural_simulator", "structural_monocular",
        )),
        spread([1000 * row["kid"] for row in rows], 0),
        spread([row["kid_stride8"] for row in rows], 0),
        spread([row["independent"] for row in rows]),
        spread([row["color"] for row in rows]),
        f"{np.mean([row['accepted'] for row in rows]):.0%}",
        str(len(rows)),
    ]  # fmt: skip
    return f"| {label} | {' | '.join(shown)} |"


def ablation_table(cells: Sequence[dict[str, Any]], epoch: int) -> str:
    """A table for each lab."""
    lines = []
    for lab in dict.fromkeys(cell["lab"] for cell in cells):
        lines += [f"**{lab}**", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for variant, label in LABELS.items():
            mine = [c for c in cells if (c["lab"], c["variant"]) == (lab, variant)]
            if mine and variant in BASES:
                lines.append(line(f"*{BASES[variant]}*", mine, 0))
            if mine:
                lines.append(line(label, mine, epoch))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epoch", type=int, default=5)
    options = parser.parse_args()
    names = ("post_training", "post_training_draft_ablations")
    kept = [json.loads((RESULTS / f"{name}.json").read_text()) for name in names]
    cells = [cell for record in kept for cell in record["results"]["cells"]]
    print(ablation_table(cells, options.epoch))


if __name__ == "__main__":
    main()
