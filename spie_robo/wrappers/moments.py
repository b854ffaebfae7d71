"""The single and the vector wrapper share this way from raw observations to guarded edits.

A *moment* is one env's observation at one time: all its cameras, edited with one seed. Pictures
are edited upright; what leaves is turned back to how the env had it, unless upright is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.simulators.orientation import UPRIGHT, Orientation
from spie_robo.simulators.views import CameraView, ViewRequest
from spie_robo.types import RGB, Frame, Geometry, GuardedEdit
from spie_robo.wrappers.cameras import Camera, read_value, replace_values
from spie_robo.wrappers.geometry_sources import GeometrySource, observed_cameras


@final
@dataclass(frozen=True, eq=False)
class Moment:
    """One env's raw observation.

    Attributes:
        observation: Unbatched, as the env returned it.
        info: The info that came with it.
        seed: Seed of the edits of all its cameras.
        env: The env that simulates it; a function of the user gets it as its first argument.
        index: Number of the env among those of a vector env.
        everything: The observation of all worlds, where one simulator runs several.
        live: Whether the env still stands where the observation was taken.
    """

    observation: Any
    info: Mapping[str, Any]
    seed: int
    env: Any = None
    index: int = 0
    everything: Any = None
    live: bool = True


@final
@dataclass(frozen=True, eq=False)
class EditedMoment:
    """The cameras of one moment, before and after, each as the observation holds it.

    Attributes:
        raw: uint8 (height, width, 3) of each camera: a copy of what the env rendered.
        edits: What each camera's image became.
        geometry: What is known of each camera's frame.
        orientations: How each image that is handed out must be turned to stand upright.
    """

    raw: Mapping[str, RGB]
    edits: Mapping[str, GuardedEdit]
    geometry: Mapping[str, Geometry]
    orientations: Mapping[str, Orientation]

    def info(self, plain: bool = False) -> dict[str, Any]:
        """Return the entries that the wrappers add to an env's info.

        Args:
            plain: Numbers and arrays only, which every wrapper of Gymnasium can convert.
        """
        if not plain:
            return {"realism": dict(self.edits), "raw": dict(self.raw)}
        realism = {name: plain_values(edit) for name, edit in self.edits.items()}
        added: dict[str, Any] = {"realism": realism, "raw": dict(self.raw)}
        if self.geometry:
            added["geometry"] = {name: plain_maps(g) for name, g in self.geometry.items()}
        return added


@final
class MomentEditor:
    """Edits all cameras of any number of moments in one batch."""

    def __init__(
        self,
        cameras: tuple[Camera, ...],
        guarded: GuardedEditor,
        sources: Sequence[GeometrySource],
        upright: bool = False,
    ) -> None:
        """Connect the parts.

        Args:
            cameras: The cameras to edit.
            guarded: Edits and judges their frames.
            sources: Sources of the geometry of each env's frames; one a :attr:`Moment.index`.
            upright: Hand out pictures that stand upright, however the env had them.
        """
        self.cameras = cameras
        self.guarded = guarded
        self.sources = tuple(sources)
        self._upright = upright
        self._observed = observed_cameras(cameras)
        self._warned = False

    def edit(self, moments: Sequence[Moment]) -> list[EditedMoment]:
        """Edit every camera of every moment.

        Raises:
            FrameError: If an image or its geometry has the wrong dtype or shape.
            EditorError: If the editor fails and the policy is to raise.
        """
        views = [self._views(moment) for moment in moments]
        frames = [
            _upright_frame(c, read_value(moment.observation, c), known.get(c.name))
            for moment, known in zip(moments, views, strict=True)
            for c in self.cameras
        ]
        if not frames:
            return []
        seeds = [moment.seed for moment in moments for _ in self.cameras]
        edits = self.guarded.edit(frames, seeds)
        count = len(self.cameras)
        return [
            self._handed_out(frames[i : i + count], edits[i : i + count], known)
            for i, known in zip(range(0, len(frames), count), views, strict=True)
        ]

    def close(self) -> None:
        """Free what the geometry is drawn with."""
        for source in self.sources:
            source.close()

    def replace(self, observation: Any, edited: EditedMoment) -> Any:
        """Return a copy of one unbatched observation with the edited images."""
        # like() copies, so that an agent that draws into its observation does not change the info.
        images = {c: edited.edits[c.name].rgb.copy() for c in self.cameras}
        return replace_values(
            observation,
            {c: c.like(read_value(observation, c), image) for c, image in images.items()},
        )

    def replace_batch(self, observations: Any, edited: Sequence[EditedMoment]) -> Any:
        """Return a copy of a batched observation with the edited images of every env."""
        images = {c: np.stack([m.edits[c.name].rgb for m in edited]) for c in self.cameras}
        return replace_values(
            observations,
            {c: c.like(read_value(observations, c), image) for c, image in images.items()},
        )

    def _handed_out(
        self,
        frames: Sequence[Frame],
        edits: Sequence[GuardedEdit],
        views: Mapping[str, CameraView],
    ) -> EditedMoment:
        """Turn the result of one moment as the env had it, or leave it upright."""
        turns = {
            frame.camera: views[frame.camera].orientation if frame.camera in views else UPRIGHT
            for frame in frames
        }
        if self._upright or all(turn == UPRIGHT for turn in turns.values()):
            upright = dict.fromkeys(turns, UPRIGHT)
            geometry = {name: view.geometry for name, view in views.items()}
            return EditedMoment(
                {frame.camera: frame.rgb for frame in frames},
                {f.camera: edit for f, edit in zip(frames, edits, strict=True)},
                geometry,
                upright,
            )
        return EditedMoment(
            {f.camera: turns[f.camera].turn(f.rgb) for f in frames},
            {
                f.camera: replace(edit, rgb=turns[f.camera].turn(edit.rgb))
                for f, edit in zip(frames, edits, strict=True)
            },
            {
                name: turns.get(name, UPRIGHT).turn_geometry(view.geometry)
                for name, view in views.items()
            },
            turns,
        )

    def _views(self, moment: Moment) -> Mapping[str, CameraView]:
        whole = moment.observation if moment.everything is None else moment.everything
        world = 0 if moment.everything is None else moment.index
        request = ViewRequest(moment.env, whole, moment.info, self._observed, world, moment.live)
        views = self.sources[moment.index].views(request)
        names = tuple(camera.name for camera in self.cameras)
        if views and not set(views) & set(names) and not self._warned:
            self._warned = True
            gym.logger.warn(
                "%s",
                f"The env gives the geometry of cameras {sorted(views)}, but the edited ones "
                f"are called {sorted(names)}: their edits are judged without it. Name them alike "
                f"with cameras={{{next(iter(views))!r}: <key of its image>}}.",
            )
        return views


def _upright_frame(camera: Camera, value: Any, view: CameraView | None) -> Frame:
    image = camera.image(value)
    if view is None:
        return Frame(image, camera.name)
    return Frame(view.orientation.turn(image), camera.name, view.geometry)


def plain_values(edit: GuardedEdit) -> dict[str, Any]:
    """Return the result of a frame in numbers; -1 where no guard was asked.

    Args:
        edit: The record.
    """
    verdict = edit.verdict
    values: dict[str, Any] = {
        "edited": edit.edited,
        "accepted": -1 if verdict is None else int(verdict.accepted),
        "seed": edit.seed,
        "attempts": edit.attempts,
        "failed": bool(edit.error),
    }
    measured = () if verdict is None else verdict.deviations
    return values | {deviation.name: float(deviation.value) for deviation in measured}


def plain_maps(geometry: Geometry) -> dict[str, Any]:
    """Return the geometry of a frame in arrays."""
    names = ("depth", "segmentation", "intrinsics", "extrinsics")
    arrays = {name: getattr(geometry, name) for name in names}
    return {name: array for name, array in arrays.items() if array is not None}
