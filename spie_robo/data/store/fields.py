"""Map time steps to the keys of a store, in this one place.

``record``, the wrappers' ``record=`` and ``convert`` all use this mapping. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import EnvError, StoreError
from spie_robo.types import RGB, Geometry, GuardedEdit

DEVIATIONS = (
    "outline",
    "moved_px",
    "resized_px",
    "warped_px",
    "inserted",
    "added",
    "swapped",
    "chroma_drift",
)
"""Names of the guard's measurements that get a column; what a guard does not measure is NaN.

Stores that an earlier guard wrote have other names: :func:`deviations_of` finds them."""

_OUTCOMES = ("accepted", "edited", "attempts", "seed")

SOLE_CAMERA = "camera"
"""Camera name for an environment whose observation is one image."""

_RESERVED = frozenset({"action", "reward", "success"})


def rgb_key(camera: str) -> str:
    """Return the key of the frames that the policy saw."""
    return f"{camera}_rgb"


def raw_key(camera: str) -> str:
    """Return the key of the simulator's frames, where an editor was used."""
    return f"{camera}_raw"


def depth_key(camera: str) -> str:
    """Return the key of the depth maps."""
    return f"{camera}_depth"


def segmentation_key(camera: str) -> str:
    """Return the key of the instance ids."""
    return f"{camera}_segmentation"


def extrinsics_key(camera: str) -> str:
    """Return the key of the world-to-camera matrices."""
    return f"{camera}_extrinsics"


def realism_key(camera: str, name: str) -> str:
    """Return the key of one verdict field."""
    return f"realism_{camera}_{name}"


def realism_keys(camera: str) -> tuple[str, ...]:
    """Every key that :func:`realism_columns` gives."""
    return tuple(realism_key(camera, name) for name in (*_OUTCOMES, *DEVIATIONS))


def verdict_keys(keys: Iterable[str], camera: str) -> dict[str, str]:
    """The keys of a camera's verdict fields among all keys of a store, by the fields' names.

    Args:
        keys: All keys; those of cameras tell fields of a camera ``front_top`` from fields of
            ``front``.
        camera: Name of the camera.
    """
    known = tuple(keys)
    prefix = realism_key(camera, "")
    longer = tuple(
        realism_key(other, "") for other in cameras_of(known) if other.startswith(f"{camera}_")
    )
    return {
        key.removeprefix(prefix): key
        for key in known
        if key.startswith(prefix) and not key.startswith(longer)
    }


def deviations_of(keys: Iterable[str], camera: str) -> dict[str, str]:
    """The keys of what was measured on a camera's edits, by the measurements' names."""
    found = verdict_keys(keys, camera)
    return {name: key for name, key in found.items() if name not in _OUTCOMES}


def cameras_of(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the cameras that have frames among the keys of a store, sorted."""
    suffix = rgb_key("")
    return tuple(sorted(key.removesuffix(suffix) for key in keys if key.endswith(suffix)))


def is_image(value: object) -> bool:
    """Return whether a value is a uint8 image (height, width, 3) of at least 16x16 pixels."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and value.ndim == 3
        and value.shape[2] == 3
        and min(value.shape[:2]) >= 16
    )


def step_row(
    observation: Any,
    action: Any,
    reward: Any,
    info: Mapping[str, Any],
    next_info: Mapping[str, Any],
) -> dict[str, NDArray[Any]]:
    """Return the row of one time step: :func:`observation_row` and :func:`outcome_row` together."""
    return observation_row(observation, info) | outcome_row(action, reward, next_info)


def observation_row(observation: Any, info: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays that are known at time t before the action.

    Call it before ``step``: environments may reuse their arrays, and this copies them.

    Args:
        observation: o_t, a Dict or a Box.
        info: The info that came with o_t. ``info["geometry"]`` maps a camera to its
            :class:`Geometry`; under a wrapper ``info["raw"]`` maps it to its raw frame and
            ``info["realism"]`` to its :class:`GuardedEdit`.

    Returns:
        One array a key, without a time axis.

    Raises:
        EnvError: If the observation has no camera image, or its keys cannot be stored.
    """
    low_dimensional, images = split_observation(observation)
    if not images:
        raise EnvError(
            "The observation has no camera image: expected uint8 arrays of shape (height, width, "
            f"3), got {_shapes(low_dimensional)}. Use an environment with cameras, or add its "
            "render with gymnasium.wrappers.AddRenderObservation."
        )
    # Refuse verdicts of cameras that the observation does not show.
    row = dict(low_dimensional)
    geometry, raw = info.get("geometry", {}), info.get("raw", {})
    realism = info.get("realism", {})
    if unknown := sorted(set(realism) - set(images)):
        raise EnvError(
            f"info['realism'] names the cameras {unknown}, the observation has {sorted(images)}: "
            "raw frames and verdicts would be lost. Record with the wrapper's own record=, or give "
            "its cameras the names of their observation keys."
        )
    # Add each camera's image, geometry, raw frame and verdict.
    for camera, rgb in images.items():
        row[rgb_key(camera)] = rgb
        row |= geometry_row(camera, geometry.get(camera))
        if camera in realism:
            row[raw_key(camera)] = raw[camera]
            columns = realism_columns(camera, [realism[camera]])
            row |= {key: column[0] for key, column in columns.items()}
    return {key: np.array(value) for key, value in row.items()}


def outcome_row(action: Any, reward: Any, next_info: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the action at time t and its result.

    Args:
        action: a_t.
        reward: r_t, returned by ``step(a_t)``: a number, or an array or tensor of one.
        next_info: The info that ``step(a_t)`` returned, for ``is_success`` or ``success``.

    Returns:
        ``action``, ``reward``, and ``success`` where the info says it.

    Raises:
        EnvError: If the reward is not one number.
    """
    reward_number = np.array(one_number(reward, "reward"), np.float32)
    row = {"action": np.array(action), "reward": reward_number}
    success = success_of(next_info)
    if success is not None:
        row["success"] = np.array(success)
    return row


def success_of(info: Mapping[str, Any]) -> bool | None:
    """Return whether a step's info reports success; None if it reports neither.

    Args:
        info: With ``is_success`` or else ``success``: a truth value, or an array or tensor of one.

    Raises:
        EnvError: If it is more than one value.
    """
    success = info.get("is_success", info.get("success"))
    return None if success is None else bool(one_number(success, "info['is_success']"))


def one_number(value: Any, what: str) -> float:
    """The number that a value is, or that an array or tensor of any shape holds.

    Args:
        value: As an env returned it.
        what: What it is, for the message.

    Raises:
        EnvError: If it is not one number.
    """
    if hasattr(value, "detach"):  # a torch tensor, on any device
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise EnvError(f"{what}: expected one number, got {array.dtype} of shape {array.shape}.")
    return float(array.reshape(()))


def split_observation(observation: Any) -> tuple[dict[str, NDArray[Any]], dict[str, RGB]]:
    """Split an observation into its low-dimensional arrays and its camera images.

    Nested keys are joined by ``_``. A Box becomes ``state``, or the camera ``camera``.

    Raises:
        EnvError: If a value is not numeric, or a key is one of action, reward, success.
    """
    low_dimensional: dict[str, NDArray[Any]] = {}
    images: dict[str, RGB] = {}
    for key, value in _flatten(observation):
        array = np.asarray(value)
        if is_image(array):
            images[key or SOLE_CAMERA] = array
        elif array.dtype.kind in "biuf" and (key or "state") not in _RESERVED:
            low_dimensional[key or "state"] = array
        else:
            raise EnvError(
                f"Observation {key!r}: expected numbers under a key that is not one of "
                f"{sorted(_RESERVED)}, got {array.dtype}. Rename or remove it with "
                "gymnasium.wrappers.TransformObservation."
            )
    return low_dimensional, images


def geometry_row(camera: str, geometry: Geometry | None) -> dict[str, NDArray[Any]]:
    """Return the arrays that a store keeps of the geometry of one frame, where it is known."""
    row: dict[str, NDArray[Any]] = {}
    if geometry is None:
        return row
    if geometry.depth is not None:
        row[depth_key(camera)] = np.asarray(geometry.depth, np.float32)
    if geometry.segmentation is not None:
        row[segmentation_key(camera)] = np.asarray(geometry.segmentation, np.int32)
    if geometry.extrinsics is not None:
        row[extrinsics_key(camera)] = np.asarray(geometry.extrinsics, np.float32)
    return row


def realism_columns(camera: str, edits: Sequence[GuardedEdit]) -> dict[str, NDArray[Any]]:
    """Return the verdict fields of several frames of one camera.

    Without a guard, ``accepted`` is true where there is an edit.

    Returns:
        One array (frames,) for each of :func:`realism_keys`.
    """
    accepted = [e.edited if e.verdict is None else e.verdict.accepted for e in edits]
    columns: dict[str, NDArray[Any]] = {
        "accepted": np.array(accepted, np.bool_),
        "edited": np.array([e.edited for e in edits], np.bool_),
        "attempts": np.array([e.attempts for e in edits], np.int32),
        "seed": np.array([e.seed for e in edits], np.int64),
    }
    for name in DEVIATIONS:
        values = [np.nan if e.verdict is None else e.verdict.value(name) for e in edits]
        columns[name] = np.array(values, np.float32)
    return {realism_key(camera, name): column for name, column in columns.items()}


def stack_rows(rows: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Turn rows of single steps into arrays of shape (steps, ...).

    Raises:
        StoreError: If the rows have different keys or shapes.
    """
    if any(row.keys() != rows[0].keys() for row in rows):
        raise StoreError("Every step of an episode needs the same keys.")
    try:
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]} if rows else {}
    except ValueError as error:
        raise StoreError(f"Every step of an episode needs the same shapes: {error}.") from error


def _flatten(observation: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(observation, Mapping):
        return [(prefix, observation)]
    items: list[tuple[str, Any]] = []
    for key, value in observation.items():
        items += _flatten(value, f"{prefix}_{key}" if prefix else str(key))
    return items


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{k}: {a.dtype} {a.shape}" for k, a in arrays.items()) or "nothing"
