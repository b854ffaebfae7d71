"""Tables about post-training: by epoch, with parts left out, and against the true picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tables.markdown import mean_and_deviation, share, table

Cell = dict[str, Any]
Row = dict[str, float]

SCORES = {
    "structural_simulator": ("structure, simulator", 1, 4),
    "structural_monocular": ("structure, monocular", 1, 4),
    "kid": ("KID x 1000", 1000, 0),
    "independent": ("stride-8 features", 1, 4),
    "color": ("colour histogram", 1, 4),
}
"""Columns of the tables below, lower is better: heading, scale, digits."""

VARIANTS = {
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


def epoch_table(cells: Sequence[Cell], epochs: Sequence[int], variants: Sequence[str]) -> str:
    """Means over seeds ± their deviation, for each lab, variant and epoch."""
    several = len(variants) > 1
    head = ["lab", *(["objective"] * several), "epochs",
            "gap closed, surfaces", "gap closed, whole frame", *_headings(), "guard accepts",
            "seeds", "minutes"]  # fmt: skip
    rows = []
    for lab in dict.fromkeys(cell["lab"] for cell in cells):
        for variant in variants:
            mine = [c for c in cells if (c["lab"], c["variant"]) == (lab, variant)]
            for epoch in epochs:
                reached = [cell for cell in mine if str(epoch) in cell["measured"]]
                if reached:
                    rows.append([lab, *([variant] * several), str(epoch), *_line(reached, epoch),
                                 f"{minutes(reached, epoch):.1f}"])  # fmt: skip
    return table(head, rows)


def ablation_table(cells: Sequence[Cell], lab: str, epoch: int) -> str:
    """Parts left out, beside the default and the bases, for one lab."""
    rows = []
    for variant, label in VARIANTS.items():
        mine = [c for c in cells if (c["lab"], c["variant"]) == (lab, variant)]
        if mine and variant in BASES:
            rows.append([f"*{BASES[variant]}*", *_line(mine, 0)])
        if mine:
            rows.append([label, *_line(mine, epoch)])
    head = [lab, "gap closed, surfaces", "gap closed, whole frame", *_headings(),
            "guard accepts", "seeds"]  # fmt: skip
    return table(head, rows)


def true_picture_table(cells: Sequence[Cell]) -> str:
    """Distances to the path-traced frame of the same moment: means, and the mean change."""
    scores = (("psnr", 1, 2), ("color", 1, 3), ("light", 1, 1), ("kid", 1000, 0),
              ("kid_stride8", 1, 0))  # fmt: skip
    rows = []
    for variant in dict.fromkeys(cell["variant"] for cell in cells):
        members = [cell for cell in cells if cell["variant"] == variant]
        for camera in ("front", "wrist"):
            for epoch in ("0", "10"):
                found = [cell["measured"][epoch][camera] for cell in members]
                bases = [cell["measured"]["0"][camera] for cell in members]
                rows.append([
                    variant, camera, epoch,
                    *(_change(found, bases, *score) for score in scores),
                    share(float(np.mean([row["accepted"] for row in found]))), str(len(found)),
                ])  # fmt: skip
    head = ["settings", "camera", "epochs", "PSNR, dB", "colour histogram", "too light, 0..255",
            "KID x 1000", "KID (stride 8)", "guard accepts", "labs x seeds"]  # fmt: skip
    return table(head, rows)


def gap_closed(cells: Sequence[Cell], epoch: int, name: str = "surfaces") -> list[float]:
    """Share of the way from each cell's base to the score of held-out photos; empty if unknown."""
    floor = cells[0]["floors"]["semantic_nearest"]
    pairs = [(cell["measured"]["0"], cell["measured"][str(epoch)]) for cell in cells]
    if not all(name in base and name in row for base, row in pairs):
        return []
    return [(base[name] - row[name]) / (base[name] - floor) for base, row in pairs]


def minutes(cells: Sequence[Cell], epoch: int) -> float:
    """Mean minutes of training up to an epoch."""
    seconds = [sum(row["seconds"] for row in cell["history"][:epoch]) for cell in cells]
    return float(np.mean(seconds)) / 60


def true_change(cells: Sequence[Cell], variant: str, camera: str, epoch: int = 10) -> float:
    """Mean change of PSNR to the true picture, in dB."""
    mine = [cell["measured"] for cell in cells if cell["variant"] == variant]
    return float(np.mean([m[str(epoch)][camera]["psnr"] - m["0"][camera]["psnr"] for m in mine]))


def _headings() -> list[str]:
    return [heading for heading, _, _ in SCORES.values()]


def _line(cells: Sequence[Cell], epoch: int) -> list[str]:
    rows = [cell["measured"][str(epoch)] for cell in cells]
    scores = [
        mean_and_deviation([scale * row[name] for row in rows], digits)
        for name, (_, scale, digits) in SCORES.items()
    ]
    closed = [_closed(gap_closed(cells, epoch, n)) for n in ("surfaces", "semantic_nearest")]
    accepted = share(float(np.mean([row["accepted"] for row in rows])))
    return [*closed, *scores, accepted, str(len(rows))]


def _closed(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    return f"{100 * np.mean(shares):.0f} ± {100 * np.std(shares):.0f} %"


def _change(rows: Sequence[Row], bases: Sequence[Row], name: str, scale: float, digits: int) -> str:
    mean = f"{scale * np.mean([row[name] for row in rows]):.{digits}f}"
    changes = [scale * (row[name] - base[name]) for row, base in zip(rows, bases, strict=True)]
    if not any(changes):
        return mean
    return f"{mean} ({np.mean(changes):+.{digits}f} ± {np.std(changes):.{digits}f})"
