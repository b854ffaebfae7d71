"""Describe the origin of a store's episodes and its cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import StoreError
from spie_robo.types import Geometry


@dataclass(frozen=True)
class CameraMetadata:
    """The properties of a camera that are the same in every frame.

    Attributes:
        intrinsics: Pinhole matrix in pixels, three rows of three; None if unknown.
        names: Name of each segmentation id.
    """

    intrinsics: tuple[tuple[float, ...], ...] | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def intrinsics_array(self) -> NDArray[np.float64] | None:
        """Return the pinhole matrix, float64, (3, 3)."""
        return None if self.intrinsics is None else np.array(self.intrinsics, np.float64)

    def including(self, camera: str, geometry: Geometry) -> CameraMetadata:
        """Add the intrinsics and names of ``geometry``.

        Raises:
            StoreError: If they contradict earlier ones: in a store a camera has one lens and an
                id one name.
        """
        intrinsics = self.intrinsics
        if geometry.intrinsics is not None:
            new = tuple(tuple(float(x) for x in row) for row in geometry.intrinsics)
            if intrinsics is not None and new != intrinsics:
                raise StoreError(
                    f"Intrinsics of camera {camera!r}: expected {intrinsics} as in earlier frames, "
                    f"got {new}. Record each lens into a store of its own."
                )
            intrinsics = new
        names = dict(self.names)
        for identifier, name in geometry.names.items():
            if names.setdefault(int(identifier), name) != name:
                raise StoreError(
                    f"Segmentation id {identifier} of camera {camera!r}: expected "
                    f"{names[int(identifier)]!r} as in earlier frames, got {name!r}. Record scenes "
                    "with other ids into a store of their own."
                )
        return CameraMetadata(intrinsics, names)


@dataclass(frozen=True)
class StoreMetadata:
    """The origin of the episodes of a store.

    Attributes:
        env_id: Gymnasium id of the environment; empty if unknown.
        env_spec: JSON-like keyword arguments and wrappers that rebuild the environment.
        editor_id: Name and weights hash of the editor; empty for raw frames.
        instruction: Text that the editor followed.
        cameras: Metadata of each camera by name.
        provenance: Any further origin of the data, JSON-like.
    """

    env_id: str = ""
    env_spec: Mapping[str, Any] = field(default_factory=dict)
    editor_id: str = ""
    instruction: str = ""
    cameras: Mapping[str, CameraMetadata] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def including(self, geometry: Mapping[str, Geometry]) -> StoreMetadata:
        """Add the geometry of each camera.

        Raises:
            StoreError: If it contradicts earlier frames.
        """
        cameras = dict(self.cameras)
        for camera, known in geometry.items():
            cameras[camera] = cameras.get(camera, CameraMetadata()).including(camera, known)
        return self if cameras == self.cameras else replace(self, cameras=cameras)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values.

        Raises:
            StoreError: If ``env_spec`` or ``provenance`` hold a value that JSON cannot.
        """
        record = {
            "env_id": self.env_id,
            "env_spec": dict(self.env_spec),
            "editor_id": self.editor_id,
            "instruction": self.instruction,
            "cameras": {
                name: {
                    "intrinsics": camera.intrinsics,
                    "names": {str(i): n for i, n in sorted(camera.names.items())},
                }
                for name, camera in self.cameras.items()
            },
            "provenance": dict(self.provenance),
        }
        try:
            plain: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"Metadata of a store: expected plain JSON values, got one that is not: {error}."
            ) from error
        return plain

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> StoreMetadata:
        """Read metadata from the values that :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: If the values have another form.
        """
        cameras = {}
        for name, camera in record["cameras"].items():
            rows = camera["intrinsics"]
            intrinsics = None if rows is None else tuple(tuple(float(x) for x in r) for r in rows)
            cameras[name] = CameraMetadata(
                intrinsics, {int(i): str(n) for i, n in camera["names"].items()}
            )
        return StoreMetadata(
            env_id=record["env_id"],
            env_spec=record["env_spec"],
            editor_id=record["editor_id"],
            instruction=record["instruction"],
            cameras=cameras,
            provenance=record["provenance"],
        )
