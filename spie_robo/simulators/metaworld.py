"""Meta-World: MuJoCo, with three cameras that are mounted upside down.

Release 3.1.1, which pins MuJoCo 3.3.0: the array is as MuJoCo draws it, but the up axes of the
cameras ``corner``, ``corner2`` and ``corner3`` point down (-0.96, -0.87 and -0.53), so that their
pictures stand on their head. They need a rotation; a flip would exchange left and right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from spie_robo.simulators.mujoco import find_scene
from spie_robo.simulators.mujoco_scene import MujocoWorld
from spie_robo.simulators.mujoco_simulator import MujocoSimulator


@final
class MetaWorld(MujocoSimulator):
    """Geometry of Meta-World's pictures, for ``geometry=``.

    The pictures of upside-down cameras are edited upright, and handed back as the env had them.
    """

    name = "Meta-World"

    def __init__(self, *, cameras: Mapping[str, str] | None = None) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: camera of the model}``, where it is not the one
                that the env renders.
        """
        super().__init__(cameras)

    def find(self, env: Any) -> MujocoWorld | None:
        """Return the MuJoCo world of the env."""
        return find_scene(env)
