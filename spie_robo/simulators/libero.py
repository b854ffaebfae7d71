"""LIBERO: robosuite 1.4.0 underneath, with the bottom row of every picture first.

Release hf-libero 0.1.4. LeRobot turns its pictures in both axes, after which top and bottom are
right, and left and right are exchanged: published policies are used to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from spie_robo.simulators.mujoco_scene import MujocoWorld
from spie_robo.simulators.mujoco_simulator import MujocoSimulator
from spie_robo.simulators.orientation import BOTTOM_ROW_FIRST, MIRRORED
from spie_robo.simulators.robosuite import find_sim_scene

LEROBOT_CAMERAS = {
    f"{prefix}{image}": camera
    for prefix in ("", "pixels_")
    for image, camera in (("image", "agentview"), ("image2", "robot0_eye_in_hand"))
}
"""LeRobot's names of LIBERO's cameras, and their names in the model."""


@final
class Libero(MujocoSimulator):
    """Geometry of LIBERO's camera observations, for ``geometry=``."""

    name = "LIBERO"

    def __init__(
        self, *, cameras: Mapping[str, str] | None = None, turned_by_lerobot: bool = False
    ) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: camera of the model}``; the names that LeRobot
                gives, ``image`` and ``image2``, are known.
            turned_by_lerobot: Whether the observations come out of LeRobot's processing step,
                which turns both axes.
        """
        stored = MIRRORED if turned_by_lerobot else BOTTOM_ROW_FIRST
        super().__init__({**LEROBOT_CAMERAS, **(cameras or {})}, stored)

    def find(self, env: Any) -> MujocoWorld | None:
        """Return the MuJoCo world behind robosuite's ``sim``."""
        return find_sim_scene(env)
