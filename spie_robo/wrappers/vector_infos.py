"""One env's share of what a vector env returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import iterate


def env_views(space: gym.Space[Any], batch: Any) -> list[Any]:
    """The observation or action of each env: views of the batch, not copies.

    Args:
        space: The batched space.
        batch: A sample of it.
    """
    return list(iterate(space, batch))


def env_info(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info of env ``i``: the inverse of how Gymnasium gathers the infos of all envs.

    Args:
        infos: Vectorised infos, where the boolean array ``_key`` says which envs have ``key``.
        i: Index of the env.

    Example:
        >>> env_info({"success": np.array([True, False]), "_success": np.array([False, True])}, 1)
        {'success': np.False_}
    """
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        mask = infos.get(f"_{key}")
        if mask is not None and not mask[i]:
            continue
        if isinstance(value, Mapping):
            info[key] = env_info(value, i)
        elif isinstance(value, np.ndarray) and value.ndim > 0 and len(value) > i:
            info[key] = value[i]
        else:
            info[key] = value
    return info
