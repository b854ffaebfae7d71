"""Finding the camera images of an observation space, reading them, and putting others back."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import EnvError, FrameError

SMALLEST_SIDE = 16
"""Fewest pixels a side of an image may have, as in :func:`spie_robo.types.check_image`."""

CameraNames: TypeAlias = Sequence[str] | Mapping[str, str]
"""The cameras to edit: names, or ``{name: key of its image}``; ``"a/b"`` is a nested key."""


@final
@dataclass(frozen=True)
class Camera:
    """Where one camera's image stands in an observation.

    Attributes:
        name: Name of the camera, as in ``info["geometry"]``.
        path: Keys that lead to the image; empty if the observation is the image.
    """

    name: str
    path: tuple[str, ...]


def find_cameras(space: gym.Space[Any], wanted: CameraNames | None = None) -> tuple[Camera, ...]:
    """Find the camera images of an observation space.

    An image is a uint8 ``Box`` of shape (height, width, 3), as the observation itself or at any
    depth of nested ``Dict`` spaces. Its camera is called by its keys joined with ``_``, as in an
    episode store, and ``"camera"`` if the observation itself is the image.

    Args:
        space: The observation space of a single environment.
        wanted: Names of the cameras to edit, or ``{name: key of its image}``; None takes every
            image of at least 16x16 pixels.

    Returns:
        The cameras, in the order of ``wanted``, or of the space.

    Raises:
        EnvError: If the space has no image, a wanted one is missing, or one is too small.

    Example:
        >>> import numpy as np
        >>> from gymnasium.spaces import Box, Dict
        >>> space = Dict(front=Box(0, 255, (64, 64, 3), np.uint8), state=Box(-1, 1, (7,)))
        >>> find_cameras(space)
        (Camera(name='front', path=('front',)),)
    """
    images = _images(space)
    if not images:
        raise EnvError(
            "The env has no camera images: expected a uint8 Box of shape (height, width, 3) in "
            f"its observation space, got {_describe(space)}. {_way_to_images(space)}"
        )
    if wanted is not None:
        return _distinct(_find(name, key, images, space) for name, key in _pairs(wanted, images))
    large = [path for path, box in images.items() if min(box.shape[:2]) >= SMALLEST_SIDE]
    if not large:
        raise EnvError(
            f"Every image of the env is too small: expected at least {SMALLEST_SIDE}x"
            f"{SMALLEST_SIDE} pixels, got {_describe(space)}. Render larger frames."
        )
    return _distinct(Camera("_".join(path) or "camera", path) for path in large)


def read_array(observation: Any, camera: Camera) -> NDArray[Any]:
    """The array of one camera in an observation, batched if the observation is.

    Raises:
        FrameError: If the observation lacks the image that its space promises.
    """
    value = observation
    for key in camera.path:
        try:
            value = value[key]
        except (KeyError, TypeError, IndexError) as error:
            raise FrameError(
                f"The observation has no image {'/'.join(camera.path)!r} for camera "
                f"{camera.name!r}, though its observation space promises one."
            ) from error
    return np.asarray(value)


def replace_arrays(observation: Any, arrays: Mapping[Camera, NDArray[Any]]) -> Any:
    """A copy of an observation with other images; nothing of the original is written to.

    Args:
        observation: An image, or nested dictionaries; what is not replaced is shared.
        arrays: The new array of each camera to replace.
    """
    for camera, array in arrays.items():
        observation = _replace(observation, camera.path, array)
    return observation


def without_arrays(observation: Any, cameras: Sequence[Camera]) -> dict[str, Any]:
    """A dictionary of what else than the cameras' images an observation holds."""
    rest: dict[str, Any] = observation
    for camera in cameras:
        rest = _remove(rest, camera.path)
    return rest


def _distinct(cameras: Iterable[Camera]) -> tuple[Camera, ...]:
    """The cameras, of which each name and each image must be there once."""
    found = tuple(cameras)
    for what in ([camera.name for camera in found], ["/".join(c.path) for c in found]):
        twice = sorted({one for one in what if what.count(one) > 1})
        if twice:
            raise EnvError(
                f"cameras: expected each camera once, got {twice} again. Name them yourself: "
                'cameras={"a_name": "key/of/its/image", ...}.'
            )
    return found


def _remove(observation: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if not path:
        return {}
    rest = {key: value for key, value in observation.items() if key != path[0]}
    if len(path) > 1:
        rest[path[0]] = _remove(observation[path[0]], path[1:])
    return rest


def _replace(observation: Any, path: tuple[str, ...], array: NDArray[Any]) -> Any:
    if not path:
        return array
    key, rest = path[0], path[1:]
    return {**observation, key: _replace(observation[key], rest, array)}


def _images(
    space: gym.Space[Any], path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], gym.spaces.Box]:
    if isinstance(space, gym.spaces.Dict):
        found: dict[tuple[str, ...], gym.spaces.Box] = {}
        for key, subspace in space.spaces.items():
            found |= _images(subspace, (*path, key))
        return found
    is_image = (
        isinstance(space, gym.spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[2] == 3
    )
    return {path: space} if is_image and isinstance(space, gym.spaces.Box) else {}


def _way_to_images(space: gym.Space[Any]) -> str:
    """What turns a space without images into one with them."""
    boxes = [leaf for leaf in _leaves(space) if isinstance(leaf, gym.spaces.Box)]
    if any(len(box.shape) == 3 and box.shape[2] == 3 for box in boxes):
        return (
            "Give images as whole numbers from 0 to 255 of dtype uint8, for example with "
            "gymnasium.wrappers.TransformObservation."
        )
    if any(len(box.shape) == 3 and box.shape[0] == 3 for box in boxes):
        return "Move channels last with gymnasium.wrappers.TransformObservation."
    if any(len(box.shape) >= 3 for box in boxes):
        return "Stack frames, and take grey ones, after this wrapper and not before it."
    return (
        "Add rendered frames with gymnasium.wrappers.AddRenderObservation(env, render_only=False)."
    )


def _leaves(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    if isinstance(space, gym.spaces.Dict):
        return [leaf for subspace in space.spaces.values() for leaf in _leaves(subspace)]
    return [space]


def _pairs(
    wanted: CameraNames, images: Mapping[tuple[str, ...], gym.spaces.Box]
) -> list[tuple[str, str]]:
    """``(name, key)`` of each wanted camera."""
    if isinstance(wanted, str):
        raise EnvError(f"cameras: expected a list of names, got the string {wanted!r}.")
    if not wanted:
        raise EnvError("cameras: expected at least one name; None takes every image.")
    if isinstance(wanted, Mapping):
        return list(wanted.items())
    # An observation that is itself the image has no key: a single name names it.
    if list(images) == [()] and len(wanted) == 1:
        return [(wanted[0], "")]
    return [(name.replace("/", "_"), name) for name in wanted]


def _find(
    name: str,
    key: str,
    images: Mapping[tuple[str, ...], gym.spaces.Box],
    space: gym.Space[Any],
) -> Camera:
    by_key = {"/".join(path): path for path in images}
    by_name = {"_".join(path): path for path in images}
    path = by_key.get(key, by_name.get(key))
    if path is None:
        close = difflib.get_close_matches(key, by_key, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise EnvError(
            f"Camera {name!r}: expected one of the images {sorted(by_key)} of the observation "
            f"space, got {key!r}.{hint} The space is {_describe(space)}."
        )
    shape = images[path].shape
    if min(shape[:2]) < SMALLEST_SIDE:
        raise EnvError(
            f"Camera {name!r}: expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got "
            f"{shape[0]}x{shape[1]}. Render larger frames."
        )
    return Camera(name, path)


def _describe(space: gym.Space[Any]) -> str:
    """One line that names every leaf of a space with its type, dtype and shape."""
    if isinstance(space, gym.spaces.Dict):
        inside = ", ".join(f"{key}: {_describe(value)}" for key, value in space.spaces.items())
        return f"Dict({inside})"
    if isinstance(space, gym.spaces.Box):
        return f"Box(shape={space.shape}, dtype={space.dtype})"
    return str(space)
