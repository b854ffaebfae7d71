"""Defines the seam between wrappers and simulators: one request and its answer.

``ViewRequest -> Simulator.views -> {camera: CameraView}``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from spie_robo.simulators.orientation import UPRIGHT, Orientation
from spie_robo.types import Geometry


@final
@dataclass(frozen=True)
class ObservedCamera:
    """One camera image of an observation.

    Attributes:
        name: What the wrapper calls the camera.
        path: Keys that lead to the image; empty if the observation is the image.
        height: Rows of the image.
        width: Columns of the image.
    """

    name: str
    path: tuple[str, ...]
    height: int
    width: int


@final
@dataclass(frozen=True, eq=False)
class ViewRequest:
    """One moment of one simulated world.

    Attributes:
        env: The environment, with whatever wraps it.
        observation: What it returned; for all worlds where the env simulates several.
        info: The info that came with it.
        cameras: The images that are looked at.
        world: Which of the env's parallel worlds is meant.
        live: Whether the simulator still stands where the observation was taken. False for the
            last observation of an episode whose world has been reset since.
    """

    env: Any
    observation: Any
    info: Mapping[str, Any]
    cameras: Sequence[ObservedCamera]
    world: int = 0
    live: bool = True


@final
@dataclass(frozen=True, eq=False)
class CameraView:
    """The knowledge of a simulator about one image.

    Attributes:
        geometry: Depth, segmentation and matrices of the *upright* picture, at its size.
        orientation: How the image of the observation must be turned to be that picture.
    """

    geometry: Geometry
    orientation: Orientation = UPRIGHT


@runtime_checkable
class Simulator(Protocol):
    """Reads the geometry of camera images out of a simulator.

    Nothing is invented: a camera of which the simulator knows nothing is left out.
    """

    @property
    def name(self) -> str:
        """The name that people use."""
        ...

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return what is known about the cameras of a request, by name."""
        ...


_ENDINGS = ("_image", "_images", "_rgb", "_img", "_color", "_pixels")


def simulator_camera(
    camera: ObservedCamera, known: Sequence[str], names: Mapping[str, str]
) -> str | None:
    """Return which of a simulator's cameras took an image.

    Args:
        camera: The image.
        known: Names of the simulator's cameras.
        names: What the user said: ``{camera of the wrapper: camera of the simulator}``.

    Returns:
        The name; None if no part of the image's key is one, with or without an ending such as
        ``_image``.

    Example:
        >>> wrist = ObservedCamera("wrist_image", ("wrist_image",), 64, 64)
        >>> simulator_camera(wrist, ["front", "wrist"], {})
        'wrist'
    """
    if camera.name in names:
        return names[camera.name]
    for part in (*reversed(camera.path), camera.name):
        stems = [part.removesuffix(ending) for ending in _ENDINGS if part.endswith(ending)]
        for candidate in (part, *stems):
            if candidate in known:
                return candidate
    return None


def layers(env: Any) -> Iterator[Any]:
    """Yield an env and everything that it wraps, outermost first.

    Wrappers of Gymnasium and robosuite keep what they wrap in ``env``, LeRobot's in ``_env``.
    """
    seen: set[int] = set()
    waiting = [env]
    while waiting:
        layer = waiting.pop(0)
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        inner = vars(layer) if hasattr(layer, "__dict__") else {}
        waiting += [inner[key] for key in ("env", "_env") if key in inner]


def resized(geometry: Geometry, height: int, width: int) -> Geometry:
    """Bring geometry to the size that its picture was brought to.

    Args:
        geometry: With depth or segmentation of another size, or of this one.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        Geometry whose maps have shape (height, width), taken from the nearest pixel, and whose
        intrinsics fit them.
    """
    known = next((a for a in (geometry.depth, geometry.segmentation) if a is not None), None)
    if known is None or known.shape == (height, width):
        return geometry
    scale = np.diag([width / known.shape[1], height / known.shape[0], 1.0])
    return replace(
        geometry,
        depth=_nearest(geometry.depth, height, width),
        segmentation=_nearest(geometry.segmentation, height, width),
        intrinsics=None if geometry.intrinsics is None else scale @ geometry.intrinsics,
    )


def _nearest(plane: Any, height: int, width: int) -> Any:
    """Return a map at another size, without values between its own; None of None."""
    if plane is None:
        return None
    import cv2  # not at the top: wrapping an env stays cheap

    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


@final
@dataclass
class HostCopies:
    """NumPy copies of a batch's tensors: each crosses to the CPU once, not once a world."""

    _owner: Any = None
    _copies: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def of(self, owner: Any, tensor: Any) -> Any:
        """Return ``tensor`` as a NumPy array.

        Args:
            owner: What it belongs to; with another owner, earlier copies are forgotten.
            tensor: A torch tensor on any device, Isaac Lab's wrapped array, or an array.
        """
        if owner is not self._owner:
            self._owner, self._copies = owner, {}
        # The tensor is kept with its copy, so that no other takes its place in memory.
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = (tensor, to_numpy(tensor))
        return self._copies[id(tensor)][1]


def to_numpy(value: Any) -> Any:
    """Return a tensor of any device, or anything that NumPy takes, as an array."""
    value = getattr(value, "torch", value)  # Isaac Lab 3 wraps its arrays
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
