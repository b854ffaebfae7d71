"""What a store says about itself: where its episodes come from and what its cameras are."""

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
    """What stays the same in every frame of a camera.

    Attributes:
        intrinsics: Pinhole matrix in pixels, three rows of three; None if unknown.
        names: What each segmentation id is called.
    """

    intrinsics: tuple[tuple[float, ...], ...] | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def intrinsics_array(self) -> NDArray[np.float64] | None:
        """The pinhole matrix, float64, (3, 3)."""
        return None if self.intrinsics is None else np.array(self.intrinsics, np.float64)

    def including(self, camera: str, geometry: Geometry) -> CameraMetadata:
        """Add what ``geometry`` knows.

        Raises:
            StoreError: If it contradicts what is known: a store holds one lens a camera and one
                name an id.
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
    """Where the episodes of a store come from.

    Attributes:
        env_id: Gymnasium id of the environment; empty if unknown.
        env_spec: JSON-like keyword arguments and wrappers that rebuild it.
        editor_id: Name and weights hash of the editor; empty for raw frames.
        instruction: The text that the editor followed.
        cameras: What is known about each camera.
        provenance: Anything else that tells where the data comes from, JSON-like.
    """

    env_id: str = ""
    env_spec: Mapping[str, Any] = field(default_factory=dict)
    editor_id: str = ""
    instruction: str = ""
    cameras: Mapping[str, CameraMetadata] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def including(self, geometry: Mapping[str, Geometry]) -> StoreMetadata:
        """Add what the geometry of each camera says.

        Raises:
            StoreError: If it contradicts earlier frames.
        """
        cameras = dict(self.cameras)
        for camera, known in geometry.items():
            cameras[camera] = cameras.get(camera, CameraMetadata()).including(camera, known)
        return self if cameras == self.cameras else replace(self, cameras=cameras)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values.

        Raises:
            StoreError: If ``env_spec`` or ``provenance`` hold something that JSON cannot.
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
        """Read back what :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.
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
