"""Worlds draw the frames of the second embedded editor's training pairs.

A world draws random moments: a simulator's image with its geometry, and the same moment as a
:class:`SceneState` for the twin. Held out of training and of every choice made on the way:
robosuite, Meta-World, panda-gym and gym-aloha (see ``docs/embedded_model.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import CameraPose, SceneState
from spie_robo.types import RGB

CLASSES = {"background": 0, "surface": 1, "robot": 2, "object": 3}
"""Number of each role in a class map; 4 is a goal, which MuJoCo draws as a site."""

GOAL = 4


@dataclass(frozen=True, eq=False)
class WorldView:
    """One moment of a world, seen by one camera.

    Attributes:
        rgb: uint8, (H, W, 3): the simulator's image.
        depth: float32, (H, W): metres along the optical axis; 0 where nothing is.
        instances: int32, (H, W): instance ids; -1 where nothing is.
        classes: uint8, (H, W): numbers of :data:`CLASSES`.
        state: The same moment for the twin.
        camera: Which of its cameras took the image.
        drawn_by: The renderer: ``"tiny"``, ``"mujoco"`` or ``"mitsuba"``.
    """

    rgb: RGB
    depth: NDArray[np.float32]
    instances: NDArray[np.int32]
    classes: NDArray[np.uint8]
    state: SceneState
    camera: CameraPose
    drawn_by: str


class World(Protocol):
    """Draws random moments; a moment is a function of the generator alone."""

    @property
    def name(self) -> str:
        """Name the world."""

    def sample(self, rng: np.random.Generator) -> WorldView:
        """A random moment."""


@final
class TabletopWorld:
    """Our PyBullet scenes, drawn by TinyRenderer, with a room of random colours.

    Args:
        size: Height and width in pixels.
    """

    name = "tabletop"

    def __init__(self, size: int) -> None:
        """Start the simulator."""
        from spie_robo.envs.scene_sampling import SceneSampler

        self._sampler = SceneSampler(size, size, front_jitter=0.12, recolor_room=True)

    def sample(self, rng: np.random.Generator) -> WorldView:
        """A random moment."""
        scene = self._sampler.sample(int(rng.integers(2**31)))
        geometry = scene.frame.geometry
        assert geometry is not None and geometry.segmentation is not None
        assert geometry.depth is not None
        roles = {shape.instance: shape.role for shape in scene.state.shapes}
        classes = np.zeros(geometry.segmentation.shape, np.uint8)
        for instance, name in geometry.names.items():
            number = GOAL if name == "goal" else CLASSES[roles.get(instance, "object")]
            classes[geometry.segmentation == instance] = number
        depth = np.where(geometry.segmentation < 0, 0, geometry.depth).astype(np.float32)
        return WorldView(
            scene.frame.rgb,
            depth,
            geometry.segmentation,
            classes,
            scene.state,
            scene.state.cameras[0],
            "tiny",
        )
