"""Measure the first run: from a clone to the demo's report, at two commits, in one run.

``python benchmarks/tools/first_run.py --before COMMIT [--after HEAD] [--out FILE.json]``

Each commit is cloned into a folder of its own and ``make demo`` runs there: once with an empty pip
cache, so that everything is downloaded, and once more in a new clone with the cache that the first
left. Packages that lie on this machine's disk (pip's ``find-links`` and the like) are not
downloaded in either case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def first_run(commit: str, folder: Path, cache: Path, python: str) -> dict[str, Any]:
    """Clone and run; what it took and what it left.

    Raises:
        SystemExit: If ``make demo`` fails or leaves no report.
    """
    clone = folder / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    loud = {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL"}
    environment = {key: value for key, value in os.environ.items() if key not in loud}
    environment |= {"PIP_CACHE_DIR": str(cache), "CI": "1"}
    start = time.perf_counter()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
    make = ["make", "demo", f"PYTHON={python}"]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(make, cwd=clone, env=environment, stdout=log, stderr=log, check=False)
    seconds = time.perf_counter() - start
    if done.returncode or not (clone / "out/demo/report.html").exists():
        raise SystemExit(
            f"make demo at {commit} failed:\n{(folder / 'log.txt').read_text()[-3000:]}"
        )
    installed = list((clone / ".venv").glob("lib/*/site-packages/*.dist-info"))
    size = sum(file.lstat().st_size for file in (clone / ".venv").rglob("*") if file.is_file())
    shutil.rmtree(clone)
    return {
        "seconds": round(seconds),
        "packages": len(installed),
        "gigabytes": round(size / 1e9, 2),
    }


def resolve(commit: str) -> str:
    """The full id of a commit."""
    command = ["git", "rev-parse", commit]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    """Measure both commits, cold and warm, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", default="HEAD")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    commits = {"before": resolve(arguments.before), "after": resolve(arguments.after)}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for cached in (False, True):
            for which, commit in commits.items():
                folder = Path(name) / which
                cache = folder / "cache"
                cache.mkdir(parents=True, exist_ok=True)
                row = {
                    "commit": commit[:7],
                    "which": which,
                    "pip cache": "full" if cached else "empty",
                }
                load = os.getloadavg()[0]
                row |= first_run(commit, folder, cache, arguments.python)
                row |= {"load before": round(load, 1), "load after": round(os.getloadavg()[0], 1)}
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    version = subprocess.run([arguments.python, "-V"], capture_output=True, text=True, check=True)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    result = {
        "machine": machine,
        "python": version.stdout.strip(),
        "date": time.strftime("%F"),
        "rows": rows,
    }
    print({key: value for key, value in result.items() if key != "rows"})
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
