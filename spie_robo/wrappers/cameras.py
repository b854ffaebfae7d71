"""Find the camera images of an observation space, read them, and put others back."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import gymnasium as gym
import numpy as np

from spie_robo.errors import EnvError, FrameError
from spie_robo.simulators.views import to_numpy
from spie_robo.types import RGB

SMALLEST_SIDE = 16
"""Fewest pixels a side of an image may have, as in :func:`spie_robo.types.check_image`."""

CameraNames: TypeAlias = Sequence[str] | Mapping[str, str]
"""The cameras to edit: names, or ``{name: key of its image}``; ``"a/b"`` is a nested key."""


@final
@dataclass(frozen=True)
class Camera:
    """The place of one camera's image in an observation.

    Attributes:
        name: Name of the camera, as in ``info["geometry"]``.
        path: Keys that lead to the image; empty if the observation is the image.
        shape: Shape of the image in the observation space: (height, width, 3), with 4 channels
            where it has alpha, and with a leading 1 where it is a batch of one.
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...] = ()

    @property
    def height(self) -> int:
        """Rows of the image."""
        return self.shape[-3]

    @property
    def width(self) -> int:
        """Columns of the image."""
        return self.shape[-2]

    def image(self, value: Any) -> RGB:
        """Return an image of an observation as uint8 (height, width, 3), a copy.

        Args:
            value: What stands in the observation: an array or a torch tensor on any device, with
                or without alpha and a leading batch of one.

        Raises:
            FrameError: If it is not such an image.
        """
        array = to_numpy(value)
        if array.ndim == 4 and array.shape[0] == 1:
            array = array[0]
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
            raise FrameError(
                f"frame of camera {self.name!r}: expected a uint8 array of shape (height, width, "
                f"3), got dtype {array.dtype} and shape {array.shape}, though its observation "
                "space promises one."
            )
        return np.ascontiguousarray(array[..., :3]).copy()

    def like(self, value: Any, images: RGB) -> Any:
        """Return images in the form that an observation has them in.

        Args:
            value: What stands in the observation now: its alpha is kept, its batch, and, for a
                torch tensor, its device.
            images: uint8 (height, width, 3), or with a leading batch axis.
        """
        shape = tuple(value.shape)
        rgb = np.reshape(images, (*shape[:-1], 3))
        if shape[-1] == 4:
            rgb = np.concatenate([rgb, to_numpy(value)[..., 3:]], axis=-1)
        if hasattr(value, "new_tensor"):  # torch, which need not be imported for it
            return value.new_tensor(rgb)
        return np.ascontiguousarray(rgb)


def find_cameras(space: gym.Space[Any], wanted: CameraNames | None = None) -> tuple[Camera, ...]:
    """Find the camera images of an observation space.

    An image is a uint8 ``Box`` of shape (height, width, 3), with alpha or without and perhaps as
    a batch of one, as the observation itself or at any depth of nested ``Dict`` spaces. Its camera
    is called by its keys joined with ``_``, as in an episode store, and ``"camera"`` if the
    observation itself is the image.

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
        (Camera(name='front', path=('front',), shape=(64, 64, 3)),)
    """
    images = _images(space)
    if not images:
        raise EnvError(
            "The env has no camera images: expected a uint8 Box of shape (height, width, 3) in "
            f"its observation space, got {_describe(space)}. {_way_to_images(space)}"
        )
    if wanted is not None:
        return _distinct(_find(name, key, images, space) for name, key in _pairs(wanted, images))
    large = [path for path, box in images.items() if min(box.shape[-3:-1]) >= SMALLEST_SIDE]
    if not large:
        raise EnvError(
            f"Every image of the env is too small: expected at least {SMALLEST_SIDE}x"
            f"{SMALLEST_SIDE} pixels, got {_describe(space)}. Render larger frames."
        )
    return _distinct(Camera("_".join(path) or "camera", path, images[path].shape) for path in large)


def read_value(observation: Any, camera: Camera) -> Any:
    """Return the array or tensor of one camera in an observation, batched if the observation is.

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
    return value


def replace_values(observation: Any, values: Mapping[Camera, Any]) -> Any:
    """Return a copy of an observation with other images; the original stays unchanged.

    Args:
        observation: An image, or nested dictionaries; what is not replaced is shared.
        values: The new array or tensor of each camera to replace.
    """
    for camera, value in values.items():
        observation = _replace(observation, camera.path, value)
    return observation


def without_arrays(observation: Any, cameras: Sequence[Camera]) -> dict[str, Any]:
    """Return all that an observation holds besides the cameras' images, as a dictionary."""
    rest: dict[str, Any] = observation
    for camera in cameras:
        rest = _remove(rest, camera.path)
    return rest


def _distinct(cameras: Iterable[Camera]) -> tuple[Camera, ...]:
    """Return the cameras; each name and each image must be there once."""
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


def _replace(observation: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    return {**observation, key: _replace(observation[key], rest, value)}


def _images(
    space: gym.Space[Any], path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], gym.spaces.Box]:
    if isinstance(space, gym.spaces.Dict):
        found: dict[tuple[str, ...], gym.spaces.Box] = {}
        for key, subspace in space.spaces.items():
            found |= _images(subspace, (*path, key))
        return found
    if not isinstance(space, gym.spaces.Box) or space.dtype != np.uint8:
        return {}
    shape = space.shape[1:] if len(space.shape) == 4 and space.shape[0] == 1 else space.shape
    return {path: space} if len(shape) == 3 and shape[2] in (3, 4) else {}


def _way_to_images(space: gym.Space[Any]) -> str:
    """Return advice on how to turn a space without images into one with them."""
    leaves = _leaves(space)
    if any(isinstance(leaf, gym.spaces.Tuple) for leaf in leaves):
        return (
            "Images in a Tuple have no names: make it a Dict with gymnasium.wrappers."
            "TransformObservation(env, lambda o: {'camera': o[0], 'state': o[1]}, "
            "gymnasium.spaces.Dict(camera=env.observation_space[0], state=env.observation_space"
            "[1]))."
        )
    boxes = [leaf for leaf in leaves if isinstance(leaf, gym.spaces.Box)]
    if any(len(box.shape) == 4 and box.dtype == np.uint8 for box in boxes):
        return (
            "A batch of images belongs to several envs at once: use VectorRealismWrapper, and "
            "stack frames after this wrapper and not before it."
        )
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
    """Return ``(name, key)`` of each wanted camera."""
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
    camera = Camera(name, path, images[path].shape)
    if min(camera.height, camera.width) < SMALLEST_SIDE:
        raise EnvError(
            f"Camera {name!r}: expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got "
            f"{camera.height}x{camera.width}. Render larger frames."
        )
    return camera


def _describe(space: gym.Space[Any]) -> str:
    """Return one line that names every leaf of a space with its type, dtype and shape."""
    if isinstance(space, gym.spaces.Dict):
        inside = ", ".join(f"{key}: {_describe(value)}" for key, value in space.spaces.items())
        return f"Dict({inside})"
    if isinstance(space, gym.spaces.Box):
        return f"Box(shape={space.shape}, dtype={space.dtype})"
    return str(space)
