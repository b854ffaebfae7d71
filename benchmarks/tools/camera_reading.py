"""Measure what it costs to read PyBullet's pictures, which some builds give as flat tuples.

``python benchmarks/tools/camera_reading.py [--repeats 30]`` takes pictures of the Push task and
prints, for each size, the milliseconds of a whole observation (two cameras with their geometry), of
turning one camera's answer into arrays, and of doing that with ``np.array`` instead. The scene and
its seed are fixed; the spread is that of the repeats.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

import spie_robo.envs  # noqa: F401 - registers the environments
from spie_robo.envs import cameras

SEED = 0


def milliseconds(action: Callable[[], Any], repeats: int) -> str:
    """Median and quartiles of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, [25, 50, 75])
    return f"{middle:.2f} ms ({low:.2f} to {high:.2f})"


def with_np_array(answer: Any) -> list[Any]:
    """The same arrays by the plain way."""
    width, height, *images = answer
    return [np.array(image).reshape(height, width, -1) for image in images]


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, seed {SEED}, {repeats} repeats"
    )
    for size in (64, 128, 256):
        env: Any = gym.make("SpieRobo/Push-v0", width=size, height=size).unwrapped
        env.reset(seed=SEED)
        answer = env.scene.client.getCameraImage(
            size, size, cameras.view_matrix(env.front), cameras.projection_matrix(env.front)
        )
        ways = {"reading one camera": cameras.image_arrays, "with np.array": with_np_array}
        cost = [f"{name} {milliseconds(partial(w, answer), repeats)}" for name, w in ways.items()]
        whole = f"observation {milliseconds(env._observe, repeats)}"
        print(f"{size}x{size}, {type(answer[2]).__name__}: {', '.join([whole, *cost])}")
        env.close()


if __name__ == "__main__":
    main()
