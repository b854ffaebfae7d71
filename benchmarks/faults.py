"""Inject faults and count how often the promised result follows; docs/reliability.md tells of them.

``python benchmarks/faults.py [--only NAME ...] [--scale 0.1] [--seed 0]``. Each fault that is over
is kept in ``benchmarks/results/faults.json``; ``--resume`` skips those that are there with at least
as many trials, ``--docs`` puts the table into the page. Linux; full disks need the right to mount.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import faults_damage
import faults_hostile
import faults_jobs
import faults_kill
import faults_misuse
import faults_ray
from faults_jobs import Outcome
from harness import RESULTS, ROOT, report

PAGE = ROOT / "docs" / "reliability.md"

Fault = Callable[[Path, int, int], Outcome]

FAULTS: dict[str, tuple[Fault, int]] = {
    "kill_recording": (faults_kill.kill_recording, 200),
    "kill_converting": (faults_kill.kill_converting, 50),
    "kill_exporting": (faults_kill.kill_exporting, 50),
    "kill_training": (faults_kill.kill_training, 50),
    "kill_policy": (faults_kill.kill_policy, 50),
    "signals": (faults_kill.signals, 120),
    "full_disk": (faults_damage.full_disk, 120),
    "full_disk_exports": (faults_damage.full_disk_exports, 140),
    "full_disk_training": (faults_damage.full_disk_training, 30),
    "full_disk_policy": (faults_damage.full_disk_policy, 30),
    "damage": (faults_damage.damage, 1000),
    "two_exports": (faults_damage.two_exports, 42),
    "two_writers": (faults_kill.two_writers, 50),
    "failing_editors": (faults_kill.failing_editors, 40),
    "hanging_editor": (faults_kill.hanging_editor, 10),
    "timed_out_editor": (faults_kill.timed_out_editor, 20),
    "kill_ray_worker": (faults_ray.kill_ray_worker, 20),
    "ray_out_of_memory": (faults_ray.ray_out_of_memory, 10),
    "ray_deadly_block": (faults_ray.ray_deadly_block, 5),
    "hostile": (faults_hostile.hostile, len(faults_hostile.CASES)),
    "fuzz_readers": (faults_damage.fuzz_readers, 1200),
    "long_episode": (faults_misuse.long_episode, 10),
    "misuse": (faults_misuse.misuse, 28),
}


def main() -> None:
    """Run the faults that are asked for, and report all that are known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="skip what is done already")
    parser.add_argument("--docs", action="store_true", help="put the table into the page")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    faults_jobs.prepare()
    results = _known() if options.resume or options.only != list(FAULTS) else {}
    for name in options.only:
        fault, trials = FAULTS[name]
        trials = max(4, round(trials * options.scale))
        if options.resume and results.get(name, {}).get("asked", 0) >= trials:
            continue
        began = time.monotonic()
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            outcome = fault(Path(folder), options.seed, trials)
        seconds = round(time.monotonic() - began, 1)
        results[name] = {**dataclasses.asdict(outcome), "asked": trials, "seconds": seconds}
        results = {key: results[key] for key in FAULTS if key in results}
        report("faults", options.seed, results, _table(results))
    if options.docs:
        _write_page(results)


def _known() -> dict[str, dict[str, object]]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        known: dict[str, dict[str, object]] = json.loads((RESULTS / "faults.json").read_text())[
            "results"
        ]
        return known
    return {}


def _write_page(results: dict[str, dict[str, object]]) -> None:
    """Replace the table of ``docs/reliability.md``."""
    before, start, rest = PAGE.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    PAGE.write_text(f"{before}{start}{_table(results)}\n{end}{after}")


def _table(results: dict[str, dict[str, object]]) -> str:
    lines = ["| fault | trials | kept | asked | detail |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {r['trials']} | {r['kept']} | {r['asked']} | {r['detail']} |"
        for name, r in results.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
