"""How long edits and training steps take under each choice of threads, alone and beside others.

    python benchmarks/tools/threads.py
    python benchmarks/tools/threads.py --cores 2 16 --competitors 0 1 2 --rounds 3

A setting is what the environment says when a fresh process imports torch: torch's own choice; the
same with threads that sleep while they wait; one thread; and what a command of ``spie-robo``
chooses (:mod:`spie_robo.commands.cores`). Competitors are processes that count. Everything is
bound to the first cores of the machine with ``taskset``'s call; core counts that it lacks are left
out. The least of the rounds counts, and the spread is told; what else the machine does is in
``load``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import report

from spie_robo.commands.cores import choose_threads

SETTINGS = ("torch's own", "passive", "one thread", "chosen")
BOUND = 1.2
"""Most that the choice may take, as a multiple of the best setting."""

WORK = """
import json, sys, time
import numpy as np, torch
from spie_robo.editor import Editor
from spie_robo.guard import GeometryGuard
from spie_robo.types import Frame
seed, count = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(seed)
frames = [Frame(rng.integers(0, 256, (128, 128, 3), np.uint8), "front") for _ in range(count)]
editor, guard = Editor.from_pretrained("embedded"), GeometryGuard()
for frame in frames[:2]:
    guard.judge(frame, editor.edit([frame])[0])
began = time.perf_counter()
for number, frame in enumerate(frames):
    guard.judge(frame, editor.edit([frame], seeds=[number])[0])
edits = time.perf_counter() - began
unet = editor.pipeline.unet.train().requires_grad_(True)
generator = torch.Generator().manual_seed(seed)
latents = torch.randn(4, unet.config.in_channels, 32, 32, generator=generator)
width = unet.config.cross_attention_dim
text = torch.randn(4, 48, width, generator=generator)
def step():
    unet.zero_grad()
    unet(latents, 500, encoder_hidden_states=text).sample.square().mean().backward()
step()
began = time.perf_counter()
for _ in range(count // 4):
    step()
print(json.dumps({"edits": edits, "training": time.perf_counter() - began,
                  "threads": torch.get_num_threads()}))
"""


def main() -> None:
    """Measure every setting in every condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--competitors", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    there = sorted(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    for cores in options.cores:
        if cores > len(there):
            print(f"{cores} cores: this machine has {len(there)}, left out")
            continue
        os.sched_setaffinity(0, there[:cores])
        for competitors in options.competitors:
            rows += _condition(cores, competitors, options)
            print(_table(rows), flush=True)
    os.sched_setaffinity(0, there)
    report("threads", options.seed, {"rows": rows, "bound": BOUND}, _table(rows))


def _condition(cores: int, competitors: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each setting ``rounds`` times, in turns, so that what else goes on meets all of them."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    load = os.getloadavg()[0]
    with _busy(competitors):
        for _ in range(options.rounds):
            for name in SETTINGS:
                found[name].append(_measure(name, options.seed, options.frames))
    rows = []
    for job in ("edits", "training"):
        least = {name: min(run[job] for run in runs) for name, runs in found.items()}
        for name, runs in found.items():
            spread = max(run[job] for run in runs) / least[name]
            rows.append({
                "cores": cores, "competitors": competitors, "job": job, "setting": name,
                "threads": [run["threads"] for run in runs], "seconds": least[name],
                "spread": spread, "of_best": least[name] / min(least.values()), "load": load,
            })  # fmt: skip
    return rows


def _measure(name: str, seed: int, frames: int) -> dict[str, Any]:
    mine = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in mine}
    if name == "passive":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    elif name == "one thread":
        environment["OMP_NUM_THREADS"] = "1"
    elif name == "chosen":
        choose_threads(environment)
    command = [sys.executable, "-c", WORK, str(seed), str(frames)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that count on the same cores."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5 if count else 0)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| cores | competitors | job | setting | threads | seconds | spread | of the best |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['cores']} | {r['competitors']} | {r['job']} | {r['setting']} | "
        f"{'/'.join(map(str, r['threads']))} | {r['seconds']:.2f} | {r['spread']:.2f} | "
        f"{r['of_best']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
