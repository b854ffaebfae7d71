"""robosuite: MuJoCo, with the bottom row of every picture first.

Release 1.5.2 (MuJoCo 3.8.1 works, 3.10 and later do not): camera observations are mirrored top to
bottom unless ``macros.IMAGE_CONVENTION`` is ``"opencv"``; their depth is a z-buffer, and 0 in
their instance segmentation is table, floor, wall and background alike. So depth and segmentation
are drawn anew here, from the same model with the same visible geoms.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from spie_robo.simulators.mujoco import is_mujoco
from spie_robo.simulators.mujoco_scene import MujocoWorld
from spie_robo.simulators.mujoco_simulator import MujocoSimulator
from spie_robo.simulators.orientation import BOTTOM_ROW_FIRST, UPRIGHT, Orientation
from spie_robo.simulators.views import layers


@final
class Robosuite(MujocoSimulator):
    """Geometry of robosuite's camera observations, for ``geometry=``."""

    name = "robosuite"

    def __init__(
        self, *, cameras: Mapping[str, str] | None = None, stored: Orientation | None = None
    ) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: camera of the model}``, where the key of an image,
                such as ``agentview_image``, does not name it.
            stored: How the observations lie in memory; None asks robosuite's macros, now.
        """
        super().__init__(cameras, _macro_orientation() if stored is None else stored)

    def find(self, env: Any) -> MujocoWorld | None:
        """Return the MuJoCo world behind robosuite's ``sim``."""
        return find_sim_scene(env)


def find_sim_scene(env: Any) -> MujocoWorld | None:
    """Return the MuJoCo world behind robosuite's ``sim``, as it draws it, else None."""
    for layer in layers(env):
        sim = vars(layer).get("sim") if hasattr(layer, "__dict__") else None
        model = getattr(getattr(sim, "model", None), "_model", None)
        data = getattr(getattr(sim, "data", None), "_data", None)
        if is_mujoco(model, "MjModel") and is_mujoco(data, "MjData"):
            scene = MujocoWorld(model, data)
            context = getattr(sim, "_render_context_offscreen", None)
            if context is None:
                return scene
            own = getattr(getattr(context, "gl_ctx", None), "make_current", None)
            return replace(scene, option=context.vopt, make_current=own)
    return None


def _macro_orientation() -> Orientation:
    """Return how robosuite's setting says that pictures are stored; does not import it."""
    macros = sys.modules.get("robosuite.macros")
    convention = getattr(macros, "IMAGE_CONVENTION", "opengl")
    return UPRIGHT if convention == "opencv" else BOTTOM_ROW_FIRST
