"""Chooses how many threads a command computes with, and how they wait, by what is free.

torch takes a thread for every core that it may use, and idle threads spin. Beside two other busy
processes one episode of the demo took 207 s that way, and 83 s with one thread
(``benchmarks/tools/threads.py`` measures it). So a command looks once, before torch is imported,
which cores are idle, takes one thread for each of them, and lets threads that wait sleep after a
few microseconds: sleeping at once costs half the speed of two threads on idle cores.

What the user has set in the environment (``OMP_NUM_THREADS``, ``OMP_WAIT_POLICY``) stays.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

_SECONDS = 0.2
_SPINS = "3000"
_IDLE, _WAITING = 3, 4  # columns of /proc/stat


def choose_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set OpenMP's threads and waiting for torch, unless it is imported or the user has set them.

    Args:
        environment: Variables that torch, and processes that this one starts, will read.
    """
    if "torch" in sys.modules:
        return
    # GNU's OpenMP (torch's wheels have it) spins so often, then sleeps; others sleep at once.
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
    if "OMP_NUM_THREADS" not in environment:
        environment["OMP_NUM_THREADS"] = str(free_cores())


def free_cores(seconds: float = _SECONDS) -> int:
    """Return how many of the cores that this process may use are idle, at least 1.

    Processes of a lower priority count like others: a few of them make way, a dozen do not.

    Args:
        seconds: Time over which idle cores are counted.
    """
    allowed = sorted(os.sched_getaffinity(0))
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    idle = total = 0
    for core in allowed:
        if core in before and core in after:
            spent = [new - old for old, new in zip(before[core], after[core], strict=True)]
            idle += spent[_IDLE] + spent[_WAITING]
            total += sum(spent)
    share = idle / total if total else 1.0
    return max(1, min(round(share * len(allowed)), _quota(len(allowed))))


def _ticks(stat: Path = Path("/proc/stat")) -> dict[int, list[int]]:
    """Return ticks of each core by kind; empty where the system does not report them."""
    found: dict[int, list[int]] = {}
    with suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name != "cpu":
                found[int(name[3:])] = [int(count) for count in counts[:8]]
    return found


def _quota(cores: int, root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that the control group may use, at least 1; ``cores`` without a limit."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
        for place in (root / group / "cpu.max", root / "cpu.max"):
            if place.is_file():
                limit, period = place.read_text().split()
                return cores if limit == "max" else max(1, round(int(limit) / int(period)))
    return cores
