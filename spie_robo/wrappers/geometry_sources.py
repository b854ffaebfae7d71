"""Where the geometry of each camera's frame comes from.

There are three ways to connect a simulator; each ends in ``{camera: Geometry}``:

1. The env puts it in ``info["geometry"]``. The envs of ``spie_robo.envs`` do, and
   :class:`GeometryInfo` makes any other env do so.
2. It is part of the observation: :class:`GeometryKeys` names the keys.
3. A function computes it: ``geometry(env, observation, info)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsFloat, TypeAlias, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.by_name import recorded_geometry, refuse_live
from spie_robo.errors import EnvError
from spie_robo.types import Geometry

GeometryFunction: TypeAlias = Callable[[Any, Any, Mapping[str, Any]], Mapping[str, Geometry]]
"""``function(env, observation, info) -> {camera: Geometry}``."""


@final
@dataclass(frozen=True)
class GeometryKeys:
    """Geometry that is part of the observation.

    Attributes:
        depth: Key of the depth image, ``{camera}`` standing for the camera's name, ``/`` for a
            nested key; None if there is none. Shape (height, width) or (height, width, 1).
        segmentation: The same for the instance ids.
        depth_unit: Metres in one unit of the depth image: 0.001 if it is in millimetres.
        names: What each instance id is called.

    Example:
        robosuite, whose depth has been made metric:

        >>> keys = GeometryKeys("{camera}_depth", "{camera}_segmentation_instance")

        ManiSkill, in millimetres, with ``cameras={"base_camera": "sensor_data/base_camera/rgb"}``:

        >>> keys = GeometryKeys("sensor_data/{camera}/depth", depth_unit=0.001)
    """

    depth: str | None = None
    segmentation: str | None = None
    depth_unit: float = 1.0
    names: Mapping[int, str] = field(default_factory=dict)

    def read(self, observation: Any, camera: str) -> Geometry:
        """The geometry of one camera.

        Raises:
            EnvError: If a key is not in the observation.
        """
        depth = self._image(observation, self.depth, camera)
        segmentation = self._image(observation, self.segmentation, camera)
        return Geometry(
            depth=None if depth is None else depth.astype(np.float32) * np.float32(self.depth_unit),
            segmentation=None if segmentation is None else segmentation.astype(np.int32),
            names={int(number): name for number, name in self.names.items()},
        )

    @staticmethod
    def _image(observation: Any, template: str | None, camera: str) -> Any:
        if template is None:
            return None
        key = template.replace("{camera}", camera)
        value = observation
        for part in key.split("/"):
            if not isinstance(value, Mapping) or part not in value:
                keys = sorted(value) if isinstance(value, Mapping) else type(value).__name__
                raise EnvError(
                    f"geometry: expected the key {key!r} in the observation, got {keys}. "
                    "Correct GeometryKeys, or name the cameras with cameras=."
                )
            value = value[part]
        array = np.asarray(value)
        return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


GeometryOption: TypeAlias = GeometryKeys | Mapping[str, Any] | GeometryFunction | None
"""None: ``info["geometry"]``. A mapping: the fields of :class:`GeometryKeys`, as JSON has them."""


@final
@dataclass(frozen=True)
class GeometrySource:
    """Reads ``{camera: Geometry}`` of one observation, from wherever ``option`` says.

    Raises:
        EnvError: If ``option`` is none of the three ways.
    """

    option: GeometryOption = None

    def __post_init__(self) -> None:
        """Check the option."""
        if isinstance(self.option, str):
            refuse_live(self.option, "geometry")
        if isinstance(self.option, Mapping):
            try:
                object.__setattr__(self, "option", GeometryKeys(**self.option))
            except TypeError as error:
                raise EnvError(
                    f"geometry: expected the fields of GeometryKeys, {error}."
                ) from error
        if self.option is not None and not isinstance(self.option, GeometryKeys):
            if not callable(self.option):
                raise EnvError(
                    "geometry: expected None (info['geometry']), GeometryKeys(...) or a function "
                    f"(env, observation, info) -> {{camera: Geometry}}, got {self.option!r}."
                )

    def read(
        self, env: Any, observation: Any, info: Mapping[str, Any], cameras: tuple[str, ...]
    ) -> Mapping[str, Geometry]:
        """The geometry of an observation; cameras without any are left out.

        Args:
            env: What a function gets as its first argument.
            observation: The raw, unbatched observation.
            info: The info that came with it.
            cameras: Names of the cameras that are being edited.

        Raises:
            EnvError: If what came is not ``{camera: Geometry}``.
        """
        if isinstance(self.option, GeometryKeys):
            return {camera: self.option.read(observation, camera) for camera in cameras}
        if callable(self.option):
            return checked_geometry(self.option(env, observation, info), "geometry=")
        return checked_geometry(info.get("geometry", {}), "info['geometry']")


def checked_geometry(found: Any, where: str) -> Mapping[str, Geometry]:
    """``found``, if it is ``{camera: Geometry}``.

    Raises:
        EnvError: If it is anything else.
    """
    if isinstance(found, Mapping) and all(isinstance(v, Geometry) for v in found.values()):
        return found
    got = (
        {key: type(value).__name__ for key, value in found.items()}
        if isinstance(found, Mapping)
        else type(found).__name__
    )
    raise EnvError(
        f"{where}: expected a dictionary {{camera: spie_robo.types.Geometry}}, got {got}. Build "
        "it with geometry=lambda env, observation, info: {'front': Geometry(depth=...)}."
    )


@final
class GeometryInfo(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Puts geometry into ``info["geometry"]``, where every wrapper of this package looks for it.

    A vector env hands out only observations and infos, so this is how a simulator that needs its
    env object to compute depth is connected to :class:`VectorRealismWrapper`.

    Example:
        >>> import gymnasium as gym, numpy as np
        >>> from spie_robo.types import Geometry
        >>> def depth_of(env, observation, info):
        ...     return {"camera": Geometry(depth=np.ones((400, 600), np.float32))}
        >>> env = GeometryInfo(gym.make("CartPole-v1", render_mode="rgb_array"), depth_of)
        >>> _, info = env.reset(seed=0)
        >>> info["geometry"]["camera"].depth.shape
        (400, 600)
    """

    def __init__(self, env: gym.Env[Any, Any], geometry: GeometryFunction) -> None:
        """Wrap ``env``.

        Args:
            env: The environment.
            geometry: ``geometry(env, observation, info) -> {camera: Geometry}``.

        Raises:
            EnvError: If it is the note that an env's spec keeps of a function of an object.
        """
        if isinstance(geometry, str):
            refuse_live(geometry, "geometry")
        gym.utils.RecordConstructorArgs.__init__(self, geometry=recorded_geometry(geometry))
        gym.Wrapper.__init__(self, env)
        self._geometry = geometry

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the env and add the geometry of its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._add(observation, info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the env and add the geometry of the new frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._add(observation, info)

    def _add(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        found = self._geometry(self.env, observation, info)
        return {**info, "geometry": dict(checked_geometry(found, "geometry="))}
