"""Episodes for the tests of policies, and the original Diffusion Policy's way to store them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

SIDE = 20


def episode(number: int, steps: int, action_dim: int = 2) -> dict[str, NDArray]:
    """Frames whose brightest column tells what to do."""
    rng = np.random.default_rng(number)
    action = rng.uniform(-1, 1, (steps, action_dim)).astype(np.float32)
    frames = rng.integers(0, 60, (steps, SIDE, SIDE, 3), np.uint8)
    columns = ((action[:, 0] + 1) / 2 * (SIDE - 1)).round().astype(int)
    frames[np.arange(steps), :, columns] = 250
    return {
        "action": action,
        "state": rng.normal(size=(steps, 3)).astype(np.float32),
        "front_rgb": frames,
        "wrist_rgb": 255 - frames,
    }


def write_replay_buffer(path: Path, data: dict[str, NDArray], ends: list[int]) -> Path:
    """A zarr v2 group as the original ``ReplayBuffer`` saves it."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    group, meta = root.create_group("data"), root.create_group("meta")
    for key, rows in data.items():
        chunks = (4, *rows.shape[1:])
        group.create_array(key, data=rows, chunks=chunks)
    meta.create_array("episode_ends", data=np.array(ends, np.int64))
    return path
