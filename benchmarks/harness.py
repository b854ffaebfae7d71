"""What every benchmark does with its figures: say where they come from, print and keep them."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def report(name: str, seed: int, results: dict[str, Any], table: str) -> None:
    """Print a table with its provenance and write ``benchmarks/results/<name>.json``.

    Args:
        name: Name of the benchmark, the stem of its file.
        seed: The seed that everything in it was drawn from.
        results: Its figures; NumPy scalars and arrays are fine, NaN becomes null.
        table: The same for people, as Markdown.
    """
    record = {"benchmark": name, "seed": seed, **machine(), "results": _plain(results)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    print(f"{name}: seed {seed}, commit {record['commit']}, {record['machine']}\n\n{table}\n")
    print(f"written to {path}")


def limit_threads(count: int) -> None:
    """Share the cores with other processes; renderers that take all of them only wait."""
    import drjit
    import torch

    torch.set_num_threads(count)
    os.environ["OIDN_NUM_THREADS"] = str(count)
    os.environ["OIDN_SET_AFFINITY"] = "0"
    drjit.set_thread_count(count)


def lab_folders() -> list[Path]:
    """The labs of real photographs beside the repository; none where they are absent."""
    photos = ROOT.parent / "shared" / "photos"
    return sorted(path.parent for path in photos.glob("*/references"))


def machine() -> dict[str, str]:
    """Processor, cores, memory, Python and commit (``+`` if the tree was changed since).

    Where there is no Git, ``COMMIT`` of the environment is believed.
    """
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = _git("rev-parse", "--short=12", "HEAD") or os.environ.get("COMMIT", "unknown")
    changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "machine": f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}",
        "commit": commit + changed,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 5th and 95th percentile and count of repeated measurements."""
    low, median, high = np.percentile(np.asarray(values, np.float64), [5, 50, 95])
    return {"median": float(median), "p5": float(low), "p95": float(high), "n": len(values)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
