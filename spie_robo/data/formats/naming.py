"""Names of arrays: what a foreign array is called in an episode store, and back.

Cameras are found by their shape, depth and segmentation by the names that simulators give them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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

    def to_store(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the file as rows of a store.

        Raises:
            StoreError: If an image of float numbers holds other values than 0 to 255.
        """
        if self.kind == "camera" and rows.dtype != np.uint8:
            return _to_uint8(self.name, rows)
        if self.kind in ("depth", "segmentation"):
            plain = rows[..., 0] if rows.ndim == 4 else rows
            if self.kind == "segmentation":
                return plain.astype(np.int32)
            return plain.astype(np.float32) if plain.dtype.kind == "f" else plain
        return rows

    def to_file(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of a store as the file had them, as far as its type can hold them."""
        if self.kind == "camera" or rows[:1].size != int(np.prod(self.shape, dtype=np.int64)):
            return rows
        shaped = rows.reshape(len(rows), *self.shape)
        cast = shaped.astype(self.dtype)
        return cast if np.array_equal(cast, shaped, equal_nan=rows.dtype.kind == "f") else shaped

    def to_json(self) -> list[Any]:
        """The record as plain JSON values."""
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
) -> tuple[ForeignArray, ...]:
    """Give every array of a file its key.

    Args:
        found: Type and row shape of each array by its name in the file.
        known: Places that the file itself tells, as one written by this package does.
        renamed: Names whose key is fixed by the format, e.g. ``{"actions": "action"}``.
        ours: The file was written by this package: names that it does not tell are keys.

    Raises:
        StoreError: If two arrays would get the same key.
    """
    told = {array.name: array for array in known}
    fixed = renamed or {}
    arrays = []
    for name, (dtype, shape) in found.items():
        if name in told and told[name].shape == shape:
            arrays.append(replace(told[name], dtype=dtype.name))
            continue
        key = safe_key(fixed.get(name, name))
        if ours:
            arrays.append(ForeignArray(key, name, dtype.name, shape))
            continue
        kind = _kind(key, dtype, shape)
        arrays.append(ForeignArray(_key_of(key, kind), name, dtype.name, shape, kind))
    keys = [array.key for array in arrays]
    twice = sorted({a.name for a in arrays if keys.count(a.key) > 1})
    if twice:
        raise StoreError(f"The arrays {twice} would get the same key. Rename one of them.")
    return tuple(sorted(arrays, key=lambda array: array.key))


def safe_key(name: str) -> str:
    """A name made of what the keys of a store may hold.

    Example:
        >>> safe_key("observation.images.front"), safe_key("obs/_x")
        ('observation_images_front', 'obs__x')
    """
    return re.sub(r"[^A-Za-z0-9_\-]", "_", name).lstrip("_-") or "key"


def _kind(key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Kind:
    image = len(shape) == 3 and shape[2] == 3 and min(shape[:2]) >= _MINIMUM_SIDE
    if image and not key.endswith(_RAW) and (dtype == np.uint8 or _named_image(key, dtype)):
        return "camera"
    plane = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    if plane and key.endswith(_DEPTH_ENDINGS) and dtype.kind in "uf":
        return "depth"
    if plane and key.endswith(_SEGMENTATION_ENDINGS) and dtype.kind in "iu" and dtype.itemsize <= 4:
        return "segmentation"
    return "other"


def _named_image(key: str, dtype: np.dtype[Any]) -> bool:
    """Diffusion Policy's ``img`` is float32 with values 0 to 255."""
    return dtype.kind == "f" and (key in ("img", "image") or key.endswith(_CAMERA_ENDINGS))


def _key_of(key: str, kind: Kind) -> str:
    if kind == "camera":
        return fields.rgb_key(_without(key, _CAMERA_ENDINGS))
    if kind == "depth":
        return fields.depth_key(_without(key, _DEPTH_ENDINGS))
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
