"""Isaac Lab: batches of tensors on the GPU.

Written from the documentation and sources of releases 2.3 and 3.0 and tested with stand-ins of the
shapes that they name; it has not been run in Isaac Lab itself. What they say:

- A camera of the scene has ``data.output``: ``rgb`` uint8 (N, H, W, 3), ``distance_to_image_plane``
  float32 (N, H, W, 1), metres along the optical axis with infinity for nothing, and, if the camera
  is set not to colour them, ids in ``instance_id_segmentation_fast``,
  ``instance_segmentation_fast`` or ``semantic_segmentation``, int32 (N, H, W, 1), whose names are
  ``data.info[...]["idToLabels"]``.
- ``data.pos_w`` (N, 3) and ``data.quat_w_ros`` (N, 4) are the pose of the camera in the axes of
  ROS, which are OpenCV's. Quaternions are (w, x, y, z) up to release 2 and (x, y, z, w) from
  release 3 on, which also wraps every array: ``.torch`` is its tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.simulators.pinhole import seen
from spie_robo.simulators.views import (
    CameraView,
    HostCopies,
    ViewRequest,
    resized,
    simulator_camera,
)
from spie_robo.types import Geometry

DEPTH_OUTPUTS = ("distance_to_image_plane", "depth")
"""Outputs that hold the depth along the axis; ``distance_to_camera`` runs along the ray."""

SEGMENTATION_OUTPUTS = (
    "instance_id_segmentation_fast",
    "instance_segmentation_fast",
    "semantic_segmentation",
)
_BACKGROUND = 0


@final
class IsaacLab:
    """Geometry of Isaac Lab's cameras, for ``geometry=``.

    The camera needs ``data_types=["rgb", "distance_to_image_plane",
    "instance_segmentation_fast"]`` and ``colorize_instance_segmentation=False``.
    """

    name = "Isaac Lab"

    def __init__(self, *, cameras: Mapping[str, str] | None = None) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: sensor of the scene}``, where names differ.
        """
        self._cameras = dict(cameras or {})
        self._copies = HostCopies()

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return what Isaac Lab knows about the cameras of a request, by name."""
        if not request.live:
            return {}
        sensors = _camera_sensors(request.env.unwrapped)
        found = {}
        for camera in request.cameras:
            name = simulator_camera(camera, list(sensors), self._cameras)
            if name is None and len(request.cameras) == len(sensors) == 1:
                name = next(iter(sensors))
            if name is None or name not in sensors:
                continue
            geometry = self._geometry(request, sensors[name])
            if geometry is not None:
                found[camera.name] = CameraView(resized(geometry, camera.height, camera.width))
        return found

    def _geometry(self, request: ViewRequest, sensor: Any) -> Geometry | None:
        data = sensor.data
        depth = self._map(request, data.output, DEPTH_OUTPUTS)
        segmentation = self._map(request, data.output, SEGMENTATION_OUTPUTS)
        if segmentation is not None and segmentation.ndim == 3:
            segmentation = None  # painted in colours: several ids may share one
        if depth is None and segmentation is None:
            return None
        intrinsics = self._row(request, data.intrinsic_matrices)
        return Geometry(
            depth=None if depth is None else seen(depth, _far_plane(sensor)),
            segmentation=None if segmentation is None else segmentation.astype(np.int32),
            names=_names(data),
            intrinsics=intrinsics.astype(np.float64),
            extrinsics=self._extrinsics(request, data),
        )

    def _map(self, request: ViewRequest, output: Mapping[str, Any], wanted: tuple[str, ...]) -> Any:
        """Return one world's map of the first output that there is; (H, W, C) if it is coloured."""
        for name in wanted:
            if output.get(name) is not None:
                array = self._row(request, output[name])
                return array[..., 0] if array.shape[-1] == 1 else array
        return None

    def _row(self, request: ViewRequest, tensor: Any) -> NDArray[Any]:
        # Owned by the observation: the next one makes every copy anew.
        array: NDArray[Any] = self._copies.of(request.observation, tensor)[request.world]
        return array

    def _extrinsics(self, request: ViewRequest, data: Any) -> NDArray[np.float64]:
        """Return world to camera, (4, 4)."""
        from scipy.spatial.transform import Rotation

        wrapped = hasattr(data.quat_w_ros, "torch")  # from release 3 on
        quaternion = self._row(request, data.quat_w_ros).astype(np.float64)
        rotation = Rotation.from_quat(quaternion, scalar_first=not wrapped).as_matrix().T
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ self._row(request, data.pos_w).astype(np.float64)
        return matrix


def _camera_sensors(base: Any) -> dict[str, Any]:
    """Return the sensors of a scene that make pictures."""
    sensors = getattr(getattr(base, "scene", None), "sensors", {})
    found = {}
    for name, sensor in sensors.items():
        data = getattr(sensor, "data", None)
        if hasattr(data, "output") and hasattr(data, "intrinsic_matrices"):
            found[name] = sensor
    return found


def _far_plane(sensor: Any) -> float:
    """Return the distance, in metres, at which depth may have been clipped."""
    spawn = getattr(getattr(sensor, "cfg", None), "spawn", None)
    limits = getattr(spawn, "clipping_range", None)
    return float(limits[1]) if limits is not None else np.inf


def _names(data: Any) -> dict[int, str]:
    """Return what each id of the segmentation is called: the end of its path on the stage."""
    info = getattr(data, "info", None) or {}
    if isinstance(info, (list, tuple)):  # one dictionary a world, in some releases
        info = info[0] if info else {}
    names = {_BACKGROUND: "background"}
    for output in SEGMENTATION_OUTPUTS:
        labels = (info.get(output) or {}).get("idToLabels")
        for number, label in (labels or {}).items():
            text = label.get("class", "") if isinstance(label, Mapping) else str(label)
            names[int(number)] = text.rsplit("/", 1)[-1].lower() or f"object_{number}"
        if labels:
            break
    return names
