"""Names of arrays: what a foreign array is called in an episode store, and back.

Cameras are found by their shape, depth and segmentation by the names that simulators give them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store import fields
from spie_robo.errors import StoreError

Kind = Literal["camera", "depth", "segmentation", "other"]

_CAMERA_ENDINGS = ("_rgb", "_image", "_images", "_img", "_color", "_colour")
_DEPTH_ENDINGS = ("_depth",)
_SEGMENTATION_ENDINGS = (
    "_segmentation",
    "_segmentation_instance",
    "_segmentation_element",
    "_segmentation_class",
)
_MINIMUM_SIDE = 16
_RAW = fields.raw_key("")


@dataclass(frozen=True)
class ForeignArray:
    """One array of a foreign data set and its place in an episode.

    Attributes:
        key: Its key in an episode store.
        name: Its name in the file.
        dtype: Its number type in the file.
        shape: Shape of one step in the file.
        kind: What it shows.
    """

    key: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: Kind = "other"

    @property
    def channel_first(self) -> bool:
        """True if the file keeps the frames of this camera as (3, height, width)."""
        return self.kind == "camera" and len(self.shape) == 3 and self.shape[2] != 3

    def to_store(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of the file as rows of a store.

        Raises:
            StoreError: If an image of float numbers holds other values than 0 to 255.
        """
        if self.channel_first:
            rows = np.ascontiguousarray(np.moveaxis(rows, 1, -1))
        if self.kind == "camera" and rows.dtype != np.uint8:
            return _to_uint8(self.name, rows)
        if self.kind in ("depth", "segmentation"):
            plain = rows[..., 0] if rows.ndim == 4 else rows
            if self.kind == "segmentation":
                return plain.astype(np.int32)
            return plain.astype(np.float32) if plain.dtype.kind == "f" else plain
        return rows

    def to_file(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of a store as the file had them, as far as its type can hold them."""
        if self.channel_first and rows.ndim == 4:
            return np.ascontiguousarray(np.moveaxis(rows, -1, 1))
        if self.kind == "camera" or rows[:1].size != int(np.prod(self.shape, dtype=np.int64)):
            return rows
        shaped = rows.reshape(len(rows), *self.shape)
        cast = shaped.astype(self.dtype)
        return cast if np.array_equal(cast, shaped, equal_nan=rows.dtype.kind == "f") else shaped

    def to_json(self) -> list[Any]:
        """Return the record as plain JSON values."""
        return [self.key, self.name, self.dtype, list(self.shape), self.kind]

    @staticmethod
    def from_json(values: list[Any]) -> ForeignArray:
        """Read back what :meth:`to_json` gave.

        Raises:
            TypeError, ValueError: If it is something else.
        """
        key, name, dtype, shape, kind = values
        return ForeignArray(
            str(key), str(name), str(np.dtype(dtype)), tuple(int(n) for n in shape), kind
        )


def map_arrays(
    found: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    known: Iterable[ForeignArray] = (),
    renamed: Mapping[str, str] | None = None,
    *,
    ours: bool = False,
    kinds: Mapping[str, Kind] | None = None,
) -> tuple[ForeignArray, ...]:
    """Give every array of a file its key.

    Two names that would get one key both stay: the one nearer to the top of the file gets it, the
    other is called by its whole path, with a number if that is taken too.

    Args:
        found: Type and row shape of each array by its name in the file.
        known: Places that the file itself records, as one written by this package does.
        renamed: Names whose key is fixed by the format, e.g. ``{"actions": "action"}``.
        ours: True if this package wrote the file: names without a recorded place are keys.
        kinds: Kinds of arrays that the file states, by name.
    """
    declared = {array.name: array for array in known}
    fixed = renamed or {}

    def rank(name: str) -> tuple[bool, int, bool, str]:
        return name not in declared, name.count("/"), fixed.get(name, name) != name, name

    arrays: dict[str, ForeignArray] = {}
    for name in sorted(found, key=rank):
        dtype, shape = found[name]
        if name in declared and declared[name].shape == shape:
            array = replace(declared[name], dtype=dtype.name)
        elif ours:
            array = ForeignArray(safe_key(fixed.get(name, name)), name, dtype.name, shape)
        else:
            key = safe_key(fixed.get(name, name))
            kind = (kinds or {}).get(name) or _kind(key, dtype, shape)
            array = ForeignArray(_key_of(key, kind), name, dtype.name, shape, kind)
        key = _free_key(array, arrays)
        arrays[key] = replace(array, key=key)
    return tuple(arrays[key] for key in sorted(arrays))


def _free_key(array: ForeignArray, taken: Collection[str]) -> str:
    """Return the key of an array, made of its whole name where another array has that key."""
    if array.key not in taken:
        return array.key
    ending = fields.rgb_key("") if array.kind == "camera" else ""
    whole = safe_key(array.name) + ending
    numbered = (f"{safe_key(array.name)}_{number}{ending}" for number in itertools.count(2))
    return whole if whole not in taken else next(key for key in numbered if key not in taken)


def standard_names(found: Collection[str]) -> dict[str, str]:
    """Return the key ``action`` for ``actions``, as openpi's and LIBERO's scripts call it."""
    return {"actions": "action"} if "actions" in found and "action" not in found else {}


def safe_key(name: str) -> str:
    """Return a name made of what the keys of a store may hold.

    Example:
        >>> safe_key("observation.images.front"), safe_key("obs/_x")
        ('observation_images_front', 'obs__x')
    """
    return re.sub(r"[^A-Za-z0-9_\-]", "_", name).lstrip("_-") or "key"


def _kind(key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Kind:
    colours = dtype == np.uint8 or _named_image(key, dtype)
    if colours and not key.endswith(_RAW) and _is_image(shape):
        return "camera"
    plane = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    if plane and key.endswith(_DEPTH_ENDINGS) and dtype.kind in "uf":
        return "depth"
    if plane and key.endswith(_SEGMENTATION_ENDINGS) and dtype.kind in "iu" and dtype.itemsize <= 4:
        return "segmentation"
    return "other"


def _is_image(shape: tuple[int, ...]) -> bool:
    """Return whether this is (height, width, 3) or (3, height, width), 16 pixels or more a side."""
    if len(shape) != 3:
        return False
    last, first = shape[2] == 3, shape[0] == 3
    return (last and min(shape[:2]) >= _MINIMUM_SIDE) or (first and min(shape[1:]) >= _MINIMUM_SIDE)


def _named_image(key: str, dtype: np.dtype[Any]) -> bool:
    """Return whether this is Diffusion Policy's ``img``, float32 with values 0 to 255."""
    return dtype.kind == "f" and (key in ("img", "image") or key.endswith(_CAMERA_ENDINGS))


def _key_of(key: str, kind: Kind) -> str:
    if kind == "camera":
        return fields.rgb_key(_without(key, _CAMERA_ENDINGS))
    if kind == "depth":
        return fields.depth_key(_without(_without(key, _CAMERA_ENDINGS), _DEPTH_ENDINGS))
    if kind == "segmentation" and key.endswith("_segmentation_instance"):
        return fields.segmentation_key(key.removesuffix("_segmentation_instance"))
    return key


def _without(key: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if key.endswith(ending) and len(key) > len(ending):
            return key.removesuffix(ending)
    return key


def _to_uint8(name: str, rows: NDArray[Any]) -> NDArray[np.uint8]:
    if not (np.isfinite(rows).all() and rows.min(initial=0) >= 0 and rows.max(initial=0) <= 255):
        raise StoreError(f"{name}: expected colours from 0 to 255, got others, or NaN.")
    whole: NDArray[np.uint8] = np.rint(rows).astype(np.uint8)
    if not np.array_equal(whole, rows):
        raise StoreError(
            f"{name}: expected colours that are whole numbers from 0 to 255, got fractions. Scale "
            "them to 0..255 and store them as uint8."
        )
    return whole
