"""One env's share of what a vector env returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import iterate


def env_views(space: gym.Space[Any], batch: Any) -> list[Any]:
    """Return the observation or action of each env as views of the batch, not copies.

    Args:
        space: The batched space.
        batch: A sample of it.
    """
    return list(iterate(space, batch))


def env_info(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Return the info of env ``i``, the inverse of how Gymnasium gathers the infos of all envs.

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
        elif getattr(value, "ndim", 0) > 0 and len(value) > i:  # an array or a torch tensor
            info[key] = value[i]
        else:
            info[key] = value
    return info


@final
@dataclass(frozen=True, eq=False)
class FinalObservations:
    """The last observations of the episodes that ended in a step.

    Attributes:
        key: Where they stand in the infos: ``final_obs`` in Gymnasium, ``final_observation`` in
            ManiSkill, which follows an older release.
        rows: One observation an env; None for an env that went on.
        batch: The same as one batch, where the env gives it so; else None.
    """

    key: str
    rows: Sequence[Any]
    batch: Any = None

    def of(self, i: int) -> Any:
        """Return the last observation of env ``i``."""
        return self.rows[i]

    def with_changed(self, changed: Mapping[int, Any]) -> Any:
        """Return a copy in the same form, with other observations of some envs."""
        if self.batch is None:
            rows = np.array(self.rows, dtype=object, copy=True)
            for i, observation in changed.items():
                rows[i] = observation
            return rows
        return _changed_batch(self.batch, changed)


def final_observations(infos: Mapping[str, Any], space: gym.Space[Any]) -> FinalObservations | None:
    """Return the last observations that the infos of a step hold; None if no episode ended.

    Args:
        infos: Infos of a vector env's step.
        space: The batched observation space.
    """
    if "final_obs" in infos:
        return FinalObservations("final_obs", infos["final_obs"])
    batch = infos.get("final_observation")
    if batch is None:
        return None
    return FinalObservations("final_observation", env_views(space, batch), batch)


def _changed_batch(batch: Any, changed: Mapping[int, Any]) -> Any:
    """Return a copy of a batch, a tensor or nested dictionaries of them, with other rows."""
    if isinstance(batch, Mapping):
        return {
            key: _changed_batch(value, {i: row[key] for i, row in changed.items()})
            for key, value in batch.items()
        }
    copied = batch.clone() if hasattr(batch, "clone") else np.array(batch)
    for i, row in changed.items():
        copied[i] = row
    return copied
