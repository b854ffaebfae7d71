"""What the single and the vector wrapper share: from raw observations to guarded edits.

A *moment* is one env's observation at one time: all its cameras, edited with one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.types import RGB, Frame, Geometry, GuardedEdit
from spie_robo.wrappers.cameras import Camera, read_array, replace_arrays
from spie_robo.wrappers.geometry_sources import GeometrySource


@final
@dataclass(frozen=True, eq=False)
class Moment:
    """One env's raw observation.

    Attributes:
        observation: Unbatched, as the env returned it.
        info: The info that came with it.
        seed: Seed of the edits of all its cameras.
    """

    observation: Any
    info: Mapping[str, Any]
    seed: int


@final
@dataclass(frozen=True, eq=False)
class EditedMoment:
    """The cameras of one moment, before and after.

    Attributes:
        raw: uint8 (height, width, 3) of each camera: a copy of what the env rendered.
        edits: What each camera's image became.
        geometry: What is known of each camera's frame.
    """

    raw: Mapping[str, RGB]
    edits: Mapping[str, GuardedEdit]
    geometry: Mapping[str, Geometry]

    def info(self) -> dict[str, Any]:
        """The entries that the wrappers add to an env's info."""
        return {"realism": dict(self.edits), "raw": dict(self.raw)}


@final
class MomentEditor:
    """Edits all cameras of any number of moments in one batch."""

    def __init__(
        self, cameras: tuple[Camera, ...], guarded: GuardedEditor, geometry: GeometrySource
    ) -> None:
        """Connect the parts.

        Args:
            cameras: The cameras to edit.
            guarded: Edits and judges their frames.
            geometry: Knows their geometry.
        """
        self.cameras = cameras
        self.guarded = guarded
        self._geometry = geometry
        self._warned = False

    def edit(self, env: Any, moments: Sequence[Moment]) -> list[EditedMoment]:
        """Edit every camera of every moment.

        Args:
            env: The env, for a geometry function.
            moments: Any number of them.

        Raises:
            FrameError: If an image or its geometry has the wrong dtype or shape.
            EditorError: If the editor fails and the policy is to raise.
        """
        geometries = [self._read_geometry(env, moment) for moment in moments]
        frames = [
            Frame(read_array(moment.observation, c).copy(), c.name, geometry.get(c.name))
            for moment, geometry in zip(moments, geometries, strict=True)
            for c in self.cameras
        ]
        if not frames:
            return []
        seeds = [moment.seed for moment in moments for _ in self.cameras]
        edits = self.guarded.edit(frames, seeds)
        count = len(self.cameras)
        return [
            EditedMoment(
                raw={f.camera: f.rgb for f in frames[start : start + count]},
                edits={
                    f.camera: e
                    for f, e in zip(
                        frames[start : start + count], edits[start : start + count], strict=True
                    )
                },
                geometry=geometry,
            )
            for start, geometry in zip(range(0, len(frames), count), geometries, strict=True)
        ]

    def replace(self, observation: Any, edited: EditedMoment) -> Any:
        """A copy of one unbatched observation with the edited images."""
        # Copied, so that an agent that draws into its observation does not change the info.
        return replace_arrays(
            observation, {c: edited.edits[c.name].rgb.copy() for c in self.cameras}
        )

    def replace_batch(self, observations: Any, edited: Sequence[EditedMoment]) -> Any:
        """A copy of a batched observation with the edited images of every env."""
        return replace_arrays(
            observations,
            {c: np.stack([moment.edits[c.name].rgb for moment in edited]) for c in self.cameras},
        )

    def _read_geometry(self, env: Any, moment: Moment) -> Mapping[str, Geometry]:
        names = tuple(camera.name for camera in self.cameras)
        geometry = self._geometry.read(env, moment.observation, moment.info, names)
        if geometry and not set(geometry) & set(names) and not self._warned:
            self._warned = True
            gym.logger.warn(
                f"The env gives the geometry of cameras {sorted(geometry)}, but the edited ones "
                f"are called {sorted(names)}: their edits are judged without it. Name them alike "
                f"with cameras={{{next(iter(geometry))!r}: <key of its image>}}."
            )
        return geometry
