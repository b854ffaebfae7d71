"""Find the geometry of each camera's frame.

The simulators of :mod:`spie_robo.simulators` are found by themselves, or named. For others there
are three ways, each of which ends in ``{camera: Geometry}``:

1. The env puts it in ``info["geometry"]``. The envs of ``spie_robo.envs`` do, and
   :class:`GeometryInfo` makes any other env do so.
2. It is part of the observation: :class:`GeometryKeys` names the keys.
3. A function computes it: ``geometry(env, observation, info)``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsFloat, TypeAlias, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.by_name import recorded_geometry, refuse_live
from spie_robo.errors import EnvError
from spie_robo.simulators.known_simulators import find_simulator, named_simulator
from spie_robo.simulators.orientation import UPRIGHT, Orientation
from spie_robo.simulators.views import CameraView, ObservedCamera, Simulator, ViewRequest
from spie_robo.types import Geometry
from spie_robo.wrappers.cameras import Camera, find_cameras

logger = logging.getLogger(__name__)

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
        """Return the geometry of one camera.

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


GeometryOption: TypeAlias = (
    Simulator | GeometryKeys | Mapping[str, Any] | GeometryFunction | str | None
)
"""None: ``info["geometry"]``, or else the simulator that the env is found to be. A name or an
object of :mod:`spie_robo.simulators`. ``"none"``: no geometry. A mapping: the fields of
:class:`GeometryKeys`, as JSON has them."""

NO_GEOMETRY = "none"


@final
class GeometrySource:
    """Reads the view of each camera in an observation, from wherever the option says."""

    def __init__(self, option: GeometryOption = None) -> None:
        """Check the option; a simulator is looked for at the first observation.

        Raises:
            EnvError: If the option is none of the ways that this module names.
        """
        self._option = _checked_option(option)
        self._found: Simulator | None = None
        self._searched = False

    @property
    def name(self) -> str:
        """The name of what geometry is read from; empty while nothing has been found."""
        source = self._option if self._option is not None else self._found
        if isinstance(source, Simulator):
            return source.name
        return source if isinstance(source, str) else type(source).__name__ if source else ""

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return the views of an observation, without cameras of which nothing is known.

        Raises:
            EnvError: If what came is not ``{camera: Geometry}``, or the named simulator cannot
                be read.
        """
        option, info = self._option, request.info
        if option == NO_GEOMETRY:
            return {}
        if isinstance(option, Simulator):
            return option.views(request)
        if isinstance(option, GeometryKeys):
            names = [camera.name for camera in request.cameras]
            return {name: CameraView(option.read(request.observation, name)) for name in names}
        if callable(option):
            given = checked_geometry(option(request.env, request.observation, info), "geometry=")
            return {name: CameraView(geometry) for name, geometry in given.items()}
        if "geometry" in info:
            return _views_of_info(info)
        return self._views_of_found(request)

    def close(self) -> None:
        """Free what the simulator draws with: collected later, it could harm another env's."""
        for source in (self._option, self._found):
            if isinstance(source, Simulator) and hasattr(source, "close"):
                source.close()

    def _views_of_found(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return the views of the simulator that the env is found to be; none if unknown."""
        if not self._searched:
            self._searched, self._found = True, find_simulator(request.env)
            if self._found is not None:
                logger.info("geometry: read from %s, found by itself", self._found.name)
        if self._found is None:
            return {}
        try:
            return self._found.views(request)
        except EnvError as error:
            # Nobody asked for it: an env that could be wrapped without can be wrapped still.
            self._found = None
            gym.logger.warn("%s", f"Edits are judged without geometry from here on. {error}")
            return {}


def _checked_option(option: Any) -> Any:
    """Return an option with names and mappings turned into what they mean.

    Raises:
        EnvError: If it means nothing.
    """
    if isinstance(option, str):
        refuse_live(option, "geometry")
        return option if option == NO_GEOMETRY else named_simulator(option)
    if isinstance(option, Mapping):
        try:
            return GeometryKeys(**option)
        except TypeError as error:
            raise EnvError(f"geometry: expected the fields of GeometryKeys, {error}.") from error
    known = option is None or isinstance(option, (GeometryKeys, Simulator)) or callable(option)
    if not known:
        raise EnvError(
            "geometry: expected None (info['geometry'], or the simulator that is found), the name "
            'or an object of a simulator (spie_robo.simulators), "none", GeometryKeys(...) or a '
            f"function (env, observation, info) -> {{camera: Geometry}}, got {option!r}."
        )
    return option


def _views_of_info(info: Mapping[str, Any]) -> dict[str, CameraView]:
    """Return the views in an info, with the orientations that :class:`GeometryInfo` adds."""
    geometry = checked_geometry(info["geometry"], "info['geometry']")
    turned: Mapping[str, str] = info.get("orientation", {})
    return {
        name: CameraView(known, Orientation.named(turned[name]) if name in turned else UPRIGHT)
        for name, known in geometry.items()
    }


def checked_geometry(found: Any, where: str) -> Mapping[str, Geometry]:
    """Return ``found``, if it is ``{camera: Geometry}``.

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

    def __init__(
        self, env: gym.Env[Any, Any], geometry: GeometryFunction | Simulator | str = "auto"
    ) -> None:
        """Wrap ``env``.

        Args:
            env: The environment.
            geometry: ``geometry(env, observation, info) -> {camera: Geometry}``, a simulator or
                its name; ``"auto"`` finds the simulator.

        Raises:
            EnvError: If it is the note that an env's spec keeps of an object, no simulator is
                found, or none has that name.
        """
        gym.utils.RecordConstructorArgs.__init__(self, geometry=recorded_geometry(geometry))
        gym.Wrapper.__init__(self, env)
        found = find_simulator(env) if geometry == "auto" else geometry
        if found is None:
            raise EnvError(
                f"geometry: expected an environment of a known simulator, got {env}. Give a "
                "function: GeometryInfo(env, function)."
            )
        self._source = GeometrySource(found)
        self._cameras = (
            observed_cameras(find_cameras(env.observation_space)) if not callable(found) else ()
        )

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
        views = self._source.views(ViewRequest(self.env, observation, info, self._cameras))
        geometry = {name: view.geometry for name, view in views.items()}
        turned = {n: v.orientation.name for n, v in views.items() if v.orientation != UPRIGHT}
        added = {"geometry": geometry, "orientation": turned} if turned else {"geometry": geometry}
        return {**info, **added}


def observed_cameras(cameras: Iterable[Camera]) -> tuple[ObservedCamera, ...]:
    """Return the cameras of an observation as a simulator is asked for them."""
    return tuple(ObservedCamera(c.name, c.path, c.height, c.width) for c in cameras)
