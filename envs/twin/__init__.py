"""The photoreal twin: the same scene, path-traced from the same cameras in a chosen style."""

from __future__ import annotations

from spie_robo.envs.twin.renderer import TwinRenderer, render_instances
from spie_robo.envs.twin.style import (
    NAMED_STYLES,
    Lamp,
    Material,
    Sensor,
    Style,
    describe,
    sample_style,
)

__all__ = [
    "NAMED_STYLES",
    "Lamp",
    "Material",
    "Sensor",
    "Style",
    "TwinRenderer",
    "describe",
    "render_instances",
    "sample_style",
]
