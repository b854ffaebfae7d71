"""dm_control and gym-aloha: MuJoCo behind a ``physics`` object.

gym-aloha 0.1.5 pins MuJoCo below 3.9; its observation ``pixels/top`` is 480 x 640 and upright.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from spie_robo.simulators.mujoco import is_mujoco
from spie_robo.simulators.mujoco_scene import MujocoWorld
from spie_robo.simulators.mujoco_simulator import MujocoSimulator
from spie_robo.simulators.views import layers


@final
class DMControl(MujocoSimulator):
    """Geometry of the pictures of dm_control, and so of gym-aloha, for ``geometry=``."""

    name = "dm_control"

    def __init__(self, *, cameras: Mapping[str, str] | None = None) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: camera of the model}``, where the key of an image
                does not name it.
        """
        super().__init__(cameras)

    def find(self, env: Any) -> MujocoWorld | None:
        """Return the MuJoCo world behind ``physics``."""
        return find_physics_scene(env)


def find_physics_scene(env: Any) -> MujocoWorld | None:
    """Return the MuJoCo world behind the ``physics`` of an env or of what it wraps, else None."""
    for layer in layers(env):
        physics = getattr(layer, "physics", None)
        model = getattr(getattr(physics, "model", None), "ptr", None)
        data = getattr(getattr(physics, "data", None), "ptr", None)
        if is_mujoco(model, "MjModel") and is_mujoco(data, "MjData"):
            return MujocoWorld(model, data)
    return None
