"""Other people's simulators: depth, segmentation and cameras, the right way up.

One file a simulator. ``RealismWrapper(env, editor)`` finds the right one by itself; an object of
one of these classes, or its name, can also be given as ``geometry=``. No simulator is imported
before an env of its kind is there.
"""

from __future__ import annotations

from spie_robo.simulators.agreement import best_orientation, outline_contrast
from spie_robo.simulators.dm_control import DMControl
from spie_robo.simulators.isaac_lab import IsaacLab
from spie_robo.simulators.known_simulators import SIMULATORS, find_simulator, named_simulator
from spie_robo.simulators.libero import Libero
from spie_robo.simulators.maniskill import ManiSkill
from spie_robo.simulators.metaworld import MetaWorld
from spie_robo.simulators.mujoco import MuJoCo
from spie_robo.simulators.orientation import Orientation
from spie_robo.simulators.pybullet import BulletCamera, PyBullet
from spie_robo.simulators.robosuite import Robosuite
from spie_robo.simulators.views import CameraView, ObservedCamera, Simulator, ViewRequest

__all__ = [
    "SIMULATORS",
    "BulletCamera",
    "CameraView",
    "DMControl",
    "IsaacLab",
    "Libero",
    "ManiSkill",
    "MetaWorld",
    "MuJoCo",
    "ObservedCamera",
    "Orientation",
    "PyBullet",
    "Robosuite",
    "Simulator",
    "ViewRequest",
    "best_orientation",
    "find_simulator",
    "named_simulator",
    "outline_contrast",
]
