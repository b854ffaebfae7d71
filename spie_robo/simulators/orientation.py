"""Turns a picture the right way up, together with its geometry.

Two different things put a picture on its head. *Storage*: OpenGL's bottom row comes first, so the
array is mirrored. *Mounting*: the camera itself hangs upside down, so the array is rotated. Both
are one of four turns of the array, and each of the four undoes itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.types import Geometry


@final
@dataclass(frozen=True)
class Orientation:
    """A turn that makes an env's array stand upright; turning it again undoes that.

    Attributes:
        rows: Whether the rows come in reverse order.
        columns: Whether the columns do.

    Example:
        >>> import numpy as np
        >>> image = np.arange(4).reshape(2, 2)
        >>> ROTATED.turn(image).tolist()
        [[3, 2], [1, 0]]
        >>> BOTTOM_ROW_FIRST.turn(image).tolist()
        [[2, 3], [0, 1]]
    """

    rows: bool = False
    columns: bool = False

    @property
    def name(self) -> str:
        """One of ``upright``, ``bottom-row-first``, ``mirrored`` and ``rotated``."""
        return _NAMES[(self.rows, self.columns)]

    @staticmethod
    def named(name: str) -> Orientation:
        """Return the orientation that :attr:`name` calls so.

        Raises:
            KeyError: If none does.
        """
        return next(Orientation(*turn) for turn, known in _NAMES.items() if known == name)

    def turn(self, image: NDArray[Any]) -> NDArray[Any]:
        """Turn an array; the result is contiguous, whatever the strides of ``image`` were.

        Args:
            image: Shape (height, width, ...).
        """
        rows, columns = -1 if self.rows else 1, -1 if self.columns else 1
        return np.ascontiguousarray(image[::rows, ::columns])

    def turn_geometry(self, geometry: Geometry) -> Geometry:
        """Turn depth, segmentation and camera matrices as :meth:`turn` turns the picture.

        A picture that is rotated by 180 degrees is what a rotated camera sees, so its extrinsics
        rotate. A mirrored picture is what no camera sees: one focal length becomes negative, and
        the matrix still projects every point onto its pixel.

        Args:
            geometry: What belongs to the picture before it is turned.
        """
        if not self.rows and not self.columns:
            return geometry
        shape = next(
            (a.shape for a in (geometry.depth, geometry.segmentation) if a is not None), ()
        )
        depth, segmentation = geometry.depth, geometry.segmentation
        intrinsics, extrinsics = geometry.intrinsics, geometry.extrinsics
        if intrinsics is not None and shape:
            intrinsics = self._mirror(shape[0], shape[1]) @ intrinsics
            if self.rows and self.columns and extrinsics is not None:
                intrinsics = intrinsics @ np.diag([-1.0, -1.0, 1.0])
                extrinsics = np.diag([-1.0, -1.0, 1.0, 1.0]) @ extrinsics
        return replace(
            geometry,
            depth=None if depth is None else self.turn(depth),
            segmentation=None if segmentation is None else self.turn(segmentation),
            intrinsics=intrinsics,
            extrinsics=extrinsics,
        )

    def _mirror(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the matrix that moves homogeneous pixel coordinates, (3, 3)."""
        matrix = np.eye(3)
        if self.columns:
            matrix[0] = [-1.0, 0.0, width]
        if self.rows:
            matrix[1] = [0.0, -1.0, height]
        return matrix


_NAMES = {
    (False, False): "upright",
    (True, False): "bottom-row-first",
    (False, True): "mirrored",
    (True, True): "rotated",
}

UPRIGHT = Orientation()
BOTTOM_ROW_FIRST = Orientation(rows=True)
MIRRORED = Orientation(columns=True)
ROTATED = Orientation(rows=True, columns=True)
