"""Tables about policies: success by what they learnt from, and simulators as a proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustness_table import LABELS, pooled, robustness_table
from tables.markdown import RESULTS, cells, record, share, table

from spie_robo.evaluation.proxy import ProxyFidelity, SuccessRates, proxy_fidelity
from spie_robo.evaluation.proxy_csv import read_proxy_table

Cell = dict[str, Any]
COLUMNS = tuple(LABELS)
LOOKS = ("vanilla", "light-intensity", "light-color", "background", "table-texture",
         "robot-texture", "camera-noise", "twin")  # fmt: skip
MAIN = ("raw", "randomized", "raw-labs", "twin")
"""What the comparison is about: raw frames, domain randomisation, the mixture, the upper bound."""
FILES = ("robustness_color", "robustness_pickplace", "robustness_steel")


def chosen(task: str, lab: str, color: float) -> list[Cell]:
    """The cells of one study."""
    files = FILES if color else ("robustness",)
    return [
        cell
        for cell in cells(*files)
        if (cell["task"], cell["lab"], cell.get("color", 0.0)) == (task, lab, color)
    ]


def success(task: str, lab: str, column: str, row: str) -> float:
    """Success rate over all training seeds, 0..1, with colour augmentation."""
    found = pooled(chosen(task, lab, 0.3), column, row)
    assert found is not None, (task, lab, column, row)
    return found[0]


def overview_table() -> str:
    """The main columns on every task and lab: in the unseen lab, and when nothing changes."""
    studies = [(task, lab) for task in ("Reach", "Push", "PickPlace")
               for lab in ("evening-desk", "steel-bench")]  # fmt: skip
    head = ["trained on", *(f"{task}, {lab}" for task, lab in studies)]
    rows = []
    for column in MAIN:
        shown = []
        for task, lab in studies:
            mine = chosen(task, lab, 0.3)
            there, same = (pooled(mine, column, row) for row in ("twin", "vanilla"))
            shown.append(f"{share(there[0])} ({100 * same[0]:.0f})" if there and same else "")
        rows.append([LABELS[column], *shown])
    return table(head, rows)


def study_table(task: str, lab: str, color: float) -> str:
    """Every column and every change of look of one study."""
    return robustness_table(chosen(task, lab, color), COLUMNS, LOOKS).strip()


def distance_table(results: dict[str, Any]) -> str:
    """How far each kind of training frames is from path-traced frames of the same moments."""
    head = ["camera", "frames", "edits", "PSNR, dB", "colour histogram", "KID x 1000",
            "KID (stride 8)"]  # fmt: skip
    return table(
        head,
        [
            [
                name.split()[0],
                LABELS[name.split()[1]],
                share(row["edited"]),
                f"{row['psnr']:.2f} ± {row['psnr_deviation']:.2f}",
                f"{row['color']:.3f}",
                f"{1000 * row['kid']:.0f}",
                f"{row['kid_stride8']:.0f}",
            ]
            for name, row in results.items()
        ],
    )


def proxy_table() -> str:
    """Pearson's r and MMRV of both simulators; the last rows leave policies out."""
    rows = []
    for task in ("Reach", "Push"):
        for row in record(f"proxy_fidelity_{task.lower()}")["results"]["simulators"]:
            rows.append(_proxy_row(task, **_parts(row)))
    for row in without_twin(RESULTS / "proxy_policies_push.csv").simulators:
        rows.append(_proxy_row(
            "Push, without policies of the twin's own lab", row.name, row.pearson,
            row.pearson_interval, row.mmrv, row.mmrv_interval,
        ))  # fmt: skip
    return table(["task", "simulator", "Pearson r [95 %]", "MMRV [95 %]"], rows)


def without_twin(path: Path) -> ProxyFidelity:
    """The same without the policies that learnt in the twin's own lab, computed from the table."""
    whole = read_proxy_table(path)
    kept = [i for i, name in enumerate(whole.policies) if not name.startswith("twin")]
    return proxy_fidelity(
        _rows(whole.real, kept), [_rows(sim, kept) for sim in whole.simulators], seed=0
    )


def _rows(rates: SuccessRates, kept: Sequence[int]) -> SuccessRates:
    episodes = None if rates.episodes is None else rates.episodes[list(kept)]
    return SuccessRates(rates.name, rates.rates[list(kept)], episodes)


def _parts(row: dict[str, Any]) -> dict[str, Any]:
    names = {"name": "name", "r": "pearson", "r_interval": "pearson_interval", "mmrv": "mmrv",
             "mmrv_interval": "mmrv_interval"}  # fmt: skip
    return {ours: row[theirs] for ours, theirs in names.items()}


def _proxy_row(
    task: str, name: str, r: Any, r_interval: Any, mmrv: Any, mmrv_interval: Any
) -> list[str]:
    simulator = {"sim": "raw", "sim_edited": "edited"}[name]
    shown = [
        f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
        for value, interval in ((r, r_interval), (mmrv, mmrv_interval))
    ]
    return [task, simulator, *shown]
