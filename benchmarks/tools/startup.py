"""Measure how long ``spie-robo --help`` takes, and what tyro's part in it is.

``python benchmarks/tools/startup.py [--repeats 10]``. Seconds of processor time stand beside those
of the clock: other work on the machine does not lengthen them.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time

COMMANDS = {
    "spie-robo --help": ["-m", "spie_robo.cli", "--help"],
    "import spie_robo": ["-c", "import spie_robo"],
    "import tyro": ["-c", "import tyro"],
    "nothing": ["-c", ""],
}


def seconds(words: list[str]) -> tuple[float, float]:
    """Of one run of Python, by the clock and of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, used


def main() -> None:
    """Print one line a command: the least and the median of the repeats."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}")
    for name, words in COMMANDS.items():
        seconds(words)  # writes bytecode
        runs = [seconds(words) for _ in range(repeats)]
        clock, used = (sorted(run[part] for run in runs) for part in (0, 1))
        print(
            f"{name:18} clock {clock[0]:.2f} to {clock[repeats // 2]:.2f} s, processor "
            f"{used[0]:.2f} to {used[repeats // 2]:.2f} s (least to median of {repeats})"
        )


if __name__ == "__main__":
    main()
