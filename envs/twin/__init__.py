"""The photoreal twin: the same scene, path-traced from the same cameras in a chosen style."""

from __future__ import annotations

from spie_robo.envs.twin.lab_styles import sample_lab_style
from spie_robo.envs.twin.mujoco_state import MujocoShapes
from spie_robo.envs.twin.pool import TwinJob, render_many
from spie_robo.envs.twin.renderer import TwinRenderer, render_instances
from spie_robo.envs.twin.sources import find_mujoco
from spie_robo.envs.twin.style import (
    NAMED_STYLES,
    Lamp,
    Material,
    Sensor,
    Style,
    describe,
    sample_style,
)
from spie_robo.envs.twin.wrapper import TwinWrapper, find_style

__all__ = [
    "NAMED_STYLES",
    "Lamp",
    "Material",
    "MujocoShapes",
    "Sensor",
    "Style",
    "TwinJob",
    "TwinRenderer",
    "TwinWrapper",
    "describe",
    "find_mujoco",
    "find_style",
    "render_instances",
    "render_many",
    "sample_lab_style",
    "sample_style",
]
