"""MuJoCo: any ``MjModel`` and ``MjData``, Gymnasium's MuJoCo envs, Gymnasium-Robotics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from spie_robo.errors import EnvError
from spie_robo.simulators.mujoco_scene import MujocoWorld
from spie_robo.simulators.mujoco_simulator import MujocoSimulator
from spie_robo.simulators.views import layers


@final
class MuJoCo(MujocoSimulator):
    """Geometry of MuJoCo's own pictures, for ``geometry=``.

    Finds the model and data by itself in Gymnasium's MuJoCo envs, in Gymnasium-Robotics and in any
    env with the attributes ``model`` and ``data``; else give them. An image is matched to a camera
    of the model by its key; the only image of an env is what ``env.render()`` shows.

    A camera that is mounted upside down is turned by 180 degrees before its picture is edited.

    Example:
        >>> import mujoco
        >>> model = mujoco.MjModel.from_xml_string("<mujoco/>")
        >>> MuJoCo(model, mujoco.MjData(model), cameras={"front_view": "front"}).name
        'MuJoCo'
    """

    name = "MuJoCo"

    def __init__(
        self,
        model: Any = None,
        data: Any = None,
        *,
        cameras: Mapping[str, str] | None = None,
        option: Any = None,
    ) -> None:
        """Choose the world; nothing is drawn yet.

        Args:
            model: A ``mujoco.MjModel``; None finds it in the env.
            data: Its ``mujoco.MjData``; given with ``model`` or not at all.
            cameras: ``{camera of the wrapper: camera of the model}``.
            option: The ``mujoco.MjvOption`` that pictures are drawn with, where it is not
                MuJoCo's own.

        Raises:
            EnvError: If only one of model and data is given.
        """
        if (model is None) != (data is None):
            raise EnvError("MuJoCo: expected model and data, or neither, got one of the two.")
        super().__init__(cameras)
        self._given = None if model is None else MujocoWorld(model, data, option, render_camera=-1)

    def find(self, env: Any) -> MujocoWorld | None:
        """Return the world that was given, or else that of the env."""
        return self._given or find_scene(env)


def find_scene(env: Any) -> MujocoWorld | None:
    """Return the MuJoCo world of an env that keeps it in ``model`` and ``data``, else None."""
    for layer in layers(env):
        inner = vars(layer) if hasattr(layer, "__dict__") else {}
        model, data = inner.get("model"), inner.get("data")
        if is_mujoco(model, "MjModel") and is_mujoco(data, "MjData"):
            return _as_rendered(model, data, inner.get("mujoco_renderer"))
    return None


def is_mujoco(value: Any, kind: str) -> bool:
    """Return whether a value is of MuJoCo's class ``kind``, without importing MuJoCo."""
    return type(value).__name__ == kind and type(value).__module__.split(".")[0] == "mujoco"


def _as_rendered(model: Any, data: Any, renderer: Any) -> MujocoWorld:
    """Return the scene as Gymnasium's ``MujocoRenderer`` draws it, if that is what draws it."""
    if renderer is None:
        return MujocoWorld(model, data)
    height, width = getattr(renderer, "height", None), getattr(renderer, "width", None)
    native = (int(height), int(width)) if height and width else None
    viewer = getattr(renderer, "viewer", None)
    if viewer is None:  # nothing has been drawn yet
        return MujocoWorld(model, data, None, getattr(renderer, "camera_id", None), native)
    context = type(getattr(viewer, "opengl_context", None))
    library = context if context.__module__.startswith("mujoco.") else None
    return MujocoWorld(model, data, viewer.vopt, viewer.cam, native, library)
