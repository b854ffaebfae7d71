"""A vector environment whose observations say which look each episode has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from gymnasium.vector import AutoresetMode

from lerobot_env_spie.passengers import pack_geometry, pack_looks
from spie_robo.types import Geometry
from spie_robo.wrappers.look_seeds import LookSeeds


@final
class LookSeedEnvs:
    """Adds the look's seed, and the geometry where the environments know it, to observations.

    LeRobot resets neither a step nor the pipeline that holds it, so a step cannot know by itself
    that an episode began. Environments reset with the same seed get the same look as in
    :class:`spie_robo.RealismWrapper`.

    It is no :class:`gymnasium.vector.VectorWrapper`: LeRobot's own vector environments for LIBERO
    and others are no ``VectorEnv`` either, only look like one.
    """

    def __init__(self, envs: Any) -> None:
        """Take over ``envs``, a vector environment with ``Dict`` observations."""
        self._envs = envs
        self._seeds = [LookSeeds() for _ in range(envs.num_envs)]
        self._over = np.zeros(envs.num_envs, np.bool_)

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of the environments."""
        if name == "_envs":  # not there yet while this is being copied or unpickled
            raise AttributeError(name)
        return getattr(self._envs, name)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset all environments; every one begins a look."""
        observation, info = self._envs.reset(seed=seed, options=options)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        for i, look in enumerate(self._seeds):
            look.begin(None if seeds is None or seeds[i] is None else int(seeds[i]))
        self._over[:] = False
        return self._with_passengers(observation, info), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Step all environments; those that begin an episode by themselves begin a look."""
        observation, reward, terminated, truncated, info = self._envs.step(actions)
        over = np.logical_or(terminated, truncated)
        mode = self._envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        began = over if mode == AutoresetMode.SAME_STEP else self._over
        for i in np.flatnonzero(began).tolist():
            self._seeds[i].begin()
        self._over = over
        return self._with_passengers(observation, info), reward, terminated, truncated, info

    def _with_passengers(self, observation: Any, info: Mapping[str, Any]) -> Any:
        packed = pack_looks([look.next() for look in self._seeds])
        for camera, geometries in info.get("geometry", {}).items():
            # Gymnasium's `_camera` masks lie between the cameras, as arrays of booleans.
            if all(isinstance(geometry, Geometry) for geometry in geometries):
                packed |= pack_geometry(camera, geometries)
        return {**observation, **packed}
