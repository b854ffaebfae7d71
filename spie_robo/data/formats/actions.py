"""Actions that are several arrays, as a Dict action space gives them, end to end as one.

Robomimic's and LeRobot's training read one array of actions. The parts stay beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREFIXES = ("actions_", "action_")


def action_parts(keys: Collection[str]) -> tuple[str, ...]:
    """Return keys of the parts of an action, sorted; none where ``action`` itself is there."""
    if "action" in keys:
        return ()
    for prefix in _PREFIXES:
        parts = tuple(sorted(key for key in keys if key.startswith(prefix)))
        if parts:
            return parts
    return ()


def joined(rows: Mapping[str, NDArray[Any]], parts: Sequence[str]) -> NDArray[np.float32]:
    """Return the parts of the action of each step, end to end.

    Returns:
        (steps, numbers), float32.
    """
    flat = [rows[key].reshape(len(rows[key]), -1) for key in parts]
    return np.concatenate(flat, axis=1).astype(np.float32)


def joined_names(rows: Mapping[str, NDArray[Any]], parts: Sequence[str]) -> list[str]:
    """Return a name for each number of :func:`joined`: its key, and its place among several."""
    names = []
    for key in parts:
        count = int(np.prod(rows[key].shape[1:], dtype=np.int64))
        names += [key] if count == 1 else [f"{key}_{place}" for place in range(count)]
    return names
