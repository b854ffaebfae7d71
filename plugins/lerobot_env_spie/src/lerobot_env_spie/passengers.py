"""What travels from the environments to the step beside the frames, as arrays in observations.

LeRobot hands a step observations only, as tensors that it has turned into float32: no infos, no
seeds, no names. So everything here is bytes or small numbers, which float32 keeps exactly::

    spie_look                     uint8   (B, 4)        seed of the look, little-endian
    spie_depth/CAMERA             float32 (B, H, W)     metres
    spie_segmentation/CAMERA      int32   (B, H, W)     instance ids, below 2**24
    spie_names/CAMERA             uint8   (B, n)        JSON {id: name}, padded with spaces

LeRobot puts ``observation.`` before each of these keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.types import Geometry

LOOK = "spie_look"
_DEPTH, _SEGMENTATION, _NAMES = "spie_depth/", "spie_segmentation/", "spie_names/"
PREFIX = "spie_"


def pack_looks(seeds: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The seeds of B looks as an entry of the observation.

    Args:
        seeds: Each in 0..2**32 - 1.
    """
    return {LOOK: np.array(seeds, "<u4").view(np.uint8).reshape(len(seeds), 4)}


def unpack_looks(packed: NDArray[Any]) -> list[int]:
    """The seeds again.

    Args:
        packed: (B, 4), of any type that holds bytes.
    """
    return [int(seed) for seed in np.ascontiguousarray(packed, np.uint8).view("<u4").ravel()]


def pack_geometry(camera: str, geometries: Sequence[Geometry]) -> dict[str, NDArray[Any]]:
    """The geometry of one camera in B environments as entries of the observation."""
    packed: dict[str, NDArray[Any]] = {}
    depths = [geometry.depth for geometry in geometries]
    if all(depth is not None for depth in depths):
        packed[_DEPTH + camera] = np.stack([np.asarray(d, np.float32) for d in depths])
    segmentations = [geometry.segmentation for geometry in geometries]
    if all(segmentation is not None for segmentation in segmentations):
        packed[_SEGMENTATION + camera] = np.stack([np.asarray(s, np.int32) for s in segmentations])
        texts = [json.dumps({int(i): n for i, n in g.names.items()}).encode() for g in geometries]
        length = max(map(len, texts))
        rows = [np.frombuffer(text.ljust(length), np.uint8) for text in texts]
        packed[_NAMES + camera] = np.stack(rows)
    return packed


def unpack_geometry(
    passengers: Mapping[str, NDArray[Any]], camera: str, row: int
) -> Geometry | None:
    """The geometry of one camera in one environment; None if there is none.

    Args:
        passengers: Entries of the observation, by their names here.
        camera: Name of the camera.
        row: Which of the B environments.
    """
    depth = passengers.get(_DEPTH + camera)
    segmentation = passengers.get(_SEGMENTATION + camera)
    if depth is None and segmentation is None:
        return None
    names: dict[int, str] = {}
    if segmentation is not None:
        text = passengers[_NAMES + camera][row].astype(np.uint8).tobytes()
        names = {int(number): name for number, name in json.loads(text).items()}
    return Geometry(
        depth=None if depth is None else depth[row].astype(np.float32),
        segmentation=None if segmentation is None else segmentation[row].astype(np.int32),
        names=names,
    )
