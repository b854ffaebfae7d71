"""Measure the first run: from a clone to the demo's report, at two commits, in one run.

``python benchmarks/tools/first_run.py --before COMMIT [--after HEAD] [--rounds 1] [--out FILE]``

Each commit is cloned into a folder of its own and ``make demo`` runs there with an empty pip cache;
the commits take turns. Beside the seconds stand the seconds of processor time, which other work on
the machine does not lengthen, and the load that there was. On a loaded machine set
``OMP_NUM_THREADS=1``: threads that wait for each other wait long there. What pip downloads depends
on the machine: the size of its cache afterwards says how much that was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def first_run(commit: str, folder: Path, python: str) -> dict[str, Any]:
    """Clone and run; what it took and what it left.

    Raises:
        SystemExit: If ``make demo`` fails or leaves no report.
    """
    clone, cache = folder / "clone", folder / "cache"
    loud = {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL"}
    environment = {key: value for key, value in os.environ.items() if key not in loud}
    environment |= {"PIP_CACHE_DIR": str(cache), "CI": "1"}
    load, before, start = os.getloadavg()[0], processor_seconds(), time.perf_counter()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
    log = folder / "log.txt"
    seconds: dict[str, float] = {}
    for target in ("install", "demo"):  # demo installs too, what install did not
        command = ["make", target, f"PYTHON={python}"]
        with log.open("a") as out:
            done = subprocess.run(
                command, cwd=clone, env=environment, stdout=out, stderr=out, check=False
            )
        seconds[target] = time.perf_counter() - start - sum(seconds.values())
        if done.returncode:
            raise SystemExit(f"make {target} at {commit} failed:\n{log.read_text()[-3000:]}")
    if not (clone / "out/demo/report.html").exists():
        raise SystemExit(f"make demo at {commit} left no report:\n{log.read_text()[-3000:]}")
    installed = list((clone / ".venv").glob("lib/*/site-packages/*.dist-info"))
    return {
        "install s": round(seconds["install"]),
        "demo s": round(seconds["demo"]),
        "processor s": round(processor_seconds() - before),
        "packages": len(installed),
        "GB": round(size(clone / ".venv") / 1e9, 2),
        "GB downloaded": round(size(cache) / 1e9, 2),
        "load": f"{load:.1f} to {os.getloadavg()[0]:.1f}",
    }


def processor_seconds() -> float:
    """Processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def resolve(commit: str) -> str:
    """The full id of a commit."""
    command = ["git", "rev-parse", commit]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    """Measure both commits in turns and print a line a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", default="HEAD")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    version = subprocess.run([arguments.python, "-V"], capture_output=True, text=True, check=True)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"{time.strftime('%F')}, {version.stdout.strip()}, {machine}, OMP_NUM_THREADS {threads}")
    rows: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        for which in ("after", "before"):
            commit = resolve(getattr(arguments, which))
            with tempfile.TemporaryDirectory() as name:
                row = {"which": which, "commit": commit[:7]}
                row |= first_run(commit, Path(name), arguments.python)
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.out:
        about = {"date": time.strftime("%F"), "python": version.stdout.strip(), "machine": machine}
        arguments.out.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
