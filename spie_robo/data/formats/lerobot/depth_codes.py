"""Depth as LeRobot 0.6 keeps it: 12-bit codes in a grey video, or numbers in a TIFF picture.

The codes are even steps of depth, or of its logarithm, between two bounds: ``lerobot/datasets/
depth_utils.py`` of lerobot 0.6.1. Depth that was not measured, 0, comes back as the lower bound,
and everything beyond the upper bound as that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import StoreError

LARGEST_CODE = 4095
BITS = 12

_DEFAULTS = {"depth_min": 0.01, "depth_max": 10.0, "shift": 3.5}
_MM = 1000.0


@dataclass(frozen=True)
class DepthCodes:
    """The code of depth in a video.

    Attributes:
        minimum: Depth of code 0, metres; also what "no reading" comes back as.
        maximum: Depth of code 4095, metres; also of everything beyond.
        shift: What is added before the logarithm, metres.
        logarithmic: Whether codes are even steps of the logarithm.
    """

    minimum: float
    maximum: float
    shift: float
    logarithmic: bool

    @staticmethod
    def of(info: Mapping[str, Any], where: str) -> DepthCodes:
        """Return the codes that the ``info`` of a LeRobot feature describes.

        Raises:
            StoreError: If its numbers make no sense.
        """
        declared = {name: info.get(f"video.{name}") for name in (*_DEFAULTS, "use_log")}
        try:
            low, high, shift = (
                float(
                    default if declared[name] is None else declared[name]  # type: ignore[arg-type]
                )
                for name, default in _DEFAULTS.items()
            )
        except (TypeError, ValueError) as error:
            raise StoreError(f"{where}: expected numbers for depth, got {declared}.") from error
        logarithmic = declared["use_log"] is None or bool(declared["use_log"])
        sound = math.isfinite(high) and math.isfinite(shift) and 0 <= low < high
        if not sound or (logarithmic and low + shift <= 0):
            raise StoreError(
                f"{where}: expected depth_min of 0 or more, below depth_max, and depth_min + shift "
                f"above 0, got {declared}."
            )
        return DepthCodes(low, high, shift, logarithmic)

    def to_metres(self, codes: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return depth in metres, by LeRobot's own arithmetic, so that every bit is the same."""
        scale, offset = self._line()
        metres = np.multiply(codes, scale).astype(np.float32)
        np.add(metres, offset, out=metres)
        if self.logarithmic:
            np.exp(metres, out=metres)
            np.subtract(metres, self.shift, out=metres)
        return np.clip(metres, self.minimum, self.maximum, out=metres)

    def to_codes(self, metres: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
        """Return the codes of depth in metres; :meth:`to_metres` is the inverse."""
        depth = np.clip(metres.astype(np.float64), self.minimum, self.maximum)
        scale, offset = self._line()
        line = np.log(depth + self.shift) if self.logarithmic else depth
        return np.rint((line - offset) / scale).clip(0, LARGEST_CODE).astype(np.uint16)

    def _line(self) -> tuple[float, float]:
        """Return step and beginning of the codes, in metres or in their logarithm."""
        low, high = self.minimum, self.maximum
        if self.logarithmic:
            low, high = math.log(low + self.shift), math.log(high + self.shift)
        return (high - low) / LARGEST_CODE, low


def from_picture(pixels: NDArray[Any], unit: object) -> NDArray[Any]:
    """Return depth from a picture: whole numbers in millimetres, float numbers in metres.

    Args:
        pixels: uint16 or float32, of any shape.
        unit: LeRobot's ``depth_unit``: "m", "mm" or None, which follows from the type.
    """
    if pixels.dtype.kind in "iu":
        return pixels if unit != "m" else pixels.astype(np.float32)
    return (pixels / np.float32(_MM)) if unit == "mm" else pixels


def to_picture(depth: NDArray[Any], unit: object) -> NDArray[Any]:
    """Return the picture from which :func:`from_picture` reads the same depth."""
    if depth.dtype.kind in "iu":
        return depth
    return depth * np.float32(_MM) if unit == "mm" else depth
