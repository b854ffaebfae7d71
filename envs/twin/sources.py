"""A twin's scene states come from our tabletop environments, or from anything on MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import gymnasium as gym
import numpy as np

from spie_robo.envs.scene_state import Role, SceneState
from spie_robo.envs.tabletop_env import CAMERAS, TabletopEnv
from spie_robo.envs.twin.mujoco_cameras import CameraName
from spie_robo.envs.twin.mujoco_state import MujocoShapes
from spie_robo.errors import ConfigError, EnvError

if TYPE_CHECKING:
    import mujoco

Cameras: TypeAlias = Sequence[str] | Mapping[str, CameraName]
"""Image observations to show as the twin: names of cameras, or keys and their cameras."""

_SUFFIXES = ("_image", "_rgb", "_pixels")


class TwinSource(Protocol):
    """Says what each image of an environment shows."""

    @property
    def images(self) -> Mapping[str, CameraName]:
        """Camera of each image observation; inner keys of dictionaries follow a ``/``."""

    @property
    def metered(self) -> bool:
        """Tell whether the twin's camera has to find its exposure: lamps were not placed by us."""

    def state(self, camera: Any, height: int, width: int) -> SceneState:
        """Return what is where now, with that one camera, at that size."""

    def render_camera(self) -> Any:
        """The camera that the environment's ``render()`` uses."""

    def refit(self) -> None:
        """Called after each reset."""


@final
class TabletopSource:
    """Our own environments.

    Args:
        task: The environment.
        cameras: Some of its cameras.

    Raises:
        ConfigError: If there is no such camera.
    """

    metered = False

    def __init__(self, task: TabletopEnv, cameras: Cameras | None) -> None:
        """Check the cameras."""
        wanted = CAMERAS if cameras is None else tuple(cameras)
        unknown = [name for name in wanted if name not in CAMERAS]
        if unknown or isinstance(cameras, Mapping):
            raise ConfigError(
                f"cameras: expected some of {list(CAMERAS)}, got {unknown or cameras}."
            )
        self.images: Mapping[str, CameraName] = {name: name for name in wanted}
        self._task = task

    def state(self, camera: Any, height: int, width: int) -> SceneState:
        """All shapes, and the camera at its own size, which is the image's."""
        whole = self._task.scene_state()
        return replace(whole, cameras=(whole.camera(camera),))

    def render_camera(self) -> str:
        """The front camera."""
        return "front"

    def refit(self) -> None:
        """Nothing to do: the room stands where it stands."""


@final
class MujocoSource:
    """Any environment on MuJoCo.

    Args:
        env: The environment, wrapped or not.
        cameras: Image observations and their cameras; None: those whose key names a camera.
        roles: See :func:`spie_robo.envs.twin.mujoco_roles.geom_roles`.
        render_camera: What ``render()`` shows; None: what Gymnasium's MuJoCo renderer shows.

    Raises:
        ConfigError: If an observation or camera is unknown.
    """

    metered = True

    def __init__(
        self,
        env: gym.Env[Any, Any],
        cameras: Cameras | None,
        roles: Mapping[str, Role] | None,
        render_camera: CameraName | None,
    ) -> None:
        """Find model, images and cameras."""
        self._env, self._roles, self._render_camera = env, roles, render_camera
        self._found = find_mujoco(env)
        self._scene = self._read(self._found)
        known = _image_cameras(env.observation_space, self._found.model)
        if isinstance(cameras, Mapping):
            self.images: Mapping[str, CameraName] = dict(cameras)
        else:
            wanted = list(known) if cameras is None else list(cameras)
            missing = [key for key in wanted if key not in known]
            if missing:
                raise ConfigError(
                    f"cameras: expected image observations whose key names a camera of the model "
                    f"({sorted(known)}), got {missing}. Give a mapping from key to camera."
                )
            self.images = {key: known[key] for key in wanted}

    def state(self, camera: Any, height: int, width: int) -> SceneState:
        """Return what MuJoCo shows now."""
        return self._scene.state([camera], height, width)

    def render_camera(self) -> Any:
        """The camera given, or that of Gymnasium's viewer, which its first render makes.

        Raises:
            EnvError: If the environment has neither.
        """
        if self._render_camera is not None:
            return self._render_camera
        inner = self._env.unwrapped
        holder = getattr(inner, "robot_env", inner)
        viewer = getattr(getattr(holder, "mujoco_renderer", None), "viewer", None)
        if viewer is None:
            raise EnvError(
                "Cannot tell which camera render() uses: give TwinWrapper(render_camera=...), a "
                "camera of the model, or -1 for its free camera."
            )
        return viewer.cam

    def refit(self) -> None:
        """Read a model that the reset may have compiled anew; place room and lamps again."""
        found = find_mujoco(self._env)
        if found.model is not self._found.model or found.data is not self._found.data:
            self._found = found
            self._scene = self._read(found)
        self._scene.refit()

    def _read(self, found: MujocoSimulation) -> MujocoShapes:
        return MujocoShapes(found.model, found.data, roles=self._roles, option=found.option)


@dataclass(frozen=True, eq=False)
class MujocoSimulation:
    """A simulation is what an environment holds inside.

    Attributes:
        model: MuJoCo's own model.
        data: MuJoCo's own data.
        option: What the environment's cameras show, where that is not MuJoCo's default.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    option: mujoco.MjvOption | None = None


def find_mujoco(env: Any) -> MujocoSimulation:
    """The MuJoCo simulation inside of an environment.

    Args:
        env: A Gymnasium environment, a dm_control environment or physics, a robosuite environment
            or simulation, or anything that holds one of them.

    Raises:
        EnvError: If there is none.
    """
    inner = getattr(env, "unwrapped", env)
    for path in _PATHS:
        holder = _follow(inner, path)
        model = _native(getattr(holder, "model", None))
        data = _native(getattr(holder, "data", None))
        if model is not None and data is not None:
            option = _without_collision_shapes() if "sim" in path else None
            return MujocoSimulation(model, data, option)
    raise EnvError(
        f"Expected a SpieRobo environment (Reach, Push, PickPlace) or one on MuJoCo, got {env}: "
        "only these say what their scene looks like."
    )


_PATHS = ((), ("robot_env",), ("sim",), ("env", "sim"), ("physics",), ("_env", "physics"))


def _without_collision_shapes() -> mujoco.MjvOption:
    """Return what robosuite's cameras show: its first geom group is for collisions alone."""
    import mujoco

    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    return option


def _follow(holder: Any, path: Sequence[str]) -> Any:
    for name in path:
        holder = getattr(holder, name, None)
    return holder


def _native(wrapped: Any) -> Any:
    """MuJoCo's own object inside dm_control's (``ptr``) or robosuite's (``_model``, ``_data``)."""
    inner = [getattr(wrapped, name, None) for name in ("ptr", "_model", "_data")]
    for found in (wrapped, *inner):
        if type(found).__module__.startswith("mujoco."):
            return found
    return None


def _image_cameras(space: gym.Space[Any], model: mujoco.MjModel) -> dict[str, CameraName]:
    """Image observations whose key, without a suffix, is the name of a camera."""
    names = {model.camera(index).name for index in range(model.ncam)}
    found: dict[str, CameraName] = {}

    def visit(inner: gym.Space[Any], path: tuple[str, ...]) -> None:
        if isinstance(inner, gym.spaces.Dict):
            for key, value in inner.spaces.items():
                visit(value, (*path, str(key)))
        elif path and _is_image(inner):
            for suffix in ("", *_SUFFIXES):
                name = path[-1].removesuffix(suffix) if suffix else path[-1]
                if name in names:
                    found["/".join(path)] = name

    visit(space, ())
    return found


def _is_image(space: gym.Space[Any]) -> bool:
    return (
        isinstance(space, gym.spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[-1] == 3
    )


def replaced(observation: Any, path: str, change: Callable[[Any], Any]) -> Any:
    """The observation with one of its images changed; the original is left as it was.

    Args:
        observation: An image, or a dictionary with it.
        path: Key of the image, inner keys after a ``/``.
        change: The old image to the new one.

    Raises:
        ConfigError: If there is no such key.
    """
    if not path:
        return change(observation)
    # A key may hold a slash itself.
    if path in observation:
        return {**observation, path: change(observation[path])}
    key, _, rest = path.partition("/")
    if not rest or key not in observation:
        raise ConfigError(f"cameras: expected keys of {sorted(observation)}, got {path!r}.")
    return {**observation, key: replaced(observation[key], rest, change)}
