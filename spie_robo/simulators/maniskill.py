"""ManiSkill: batches of torch tensors from SAPIEN.

Release 3.0.1: depth is int16 in millimetres with 0 for nothing, and beyond 32.767 m it reads
-32768; segmentation is int16 with 0 for nothing; ``extrinsic_cv`` is world to camera in OpenCV's
axes, and ``intrinsic_cv`` has pixel centres at +0.5. Software rendering needs Mesa 24.3 or newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from spie_robo.simulators.pinhole import seen
from spie_robo.simulators.views import (
    CameraView,
    HostCopies,
    ObservedCamera,
    ViewRequest,
    resized,
    simulator_camera,
)
from spie_robo.types import Geometry

_METRES = np.float32(0.001)
_NOTHING = 0


@final
class ManiSkill:
    """Geometry of ManiSkill's sensors, for ``geometry=``.

    Depth and segmentation are read from the observation where it has them
    (``obs_mode="rgb+depth+segmentation"``), and else from the sensors, which have drawn them too.
    """

    name = "ManiSkill"

    def __init__(self, *, cameras: Mapping[str, str] | None = None) -> None:
        """Choose the cameras.

        Args:
            cameras: ``{camera of the wrapper: uid of the sensor}``, where the key of an image,
                such as ``sensor_data/base_camera/rgb``, does not name it.
        """
        self._cameras = dict(cameras or {})
        self._copies = HostCopies()

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return what ManiSkill knows about the cameras of a request, by name."""
        base = request.env.unwrapped
        sensors = getattr(base, "_sensors", {})
        names = _names(base)
        found = {}
        for camera in request.cameras:
            uid = simulator_camera(camera, list(sensors), self._cameras)
            if uid is None and len(request.cameras) == len(sensors) == 1:
                uid = next(iter(sensors))
            if uid is not None:
                geometry = self._geometry(request, sensors[uid], uid, names)
                if geometry is not None:
                    found[camera.name] = CameraView(_fitted(geometry, camera))
        return found

    def _geometry(
        self, request: ViewRequest, sensor: Any, uid: str, names: Mapping[int, str]
    ) -> Geometry | None:
        """Return what one sensor sees in one world; None if nobody knows any more."""
        data = _below(request.observation, ("sensor_data", uid))
        params = _below(request.observation, ("sensor_param", uid))
        complete = "depth" in data and "segmentation" in data
        if not complete and request.live:
            images = sensor.get_obs(rgb=False, depth=True, position=False, segmentation=True)
            data = {**images, **data}
        if not params and request.live:
            params = sensor.get_params()
        depth = self._plane(request, data.get("depth"))
        segmentation = self._plane(request, data.get("segmentation"))
        if depth is None and segmentation is None:
            return None
        return Geometry(
            depth=None if depth is None else _metres(depth),
            segmentation=None if segmentation is None else segmentation.astype(np.int32),
            names=names,
            intrinsics=self._matrix(request, params.get("intrinsic_cv")),
            extrinsics=_square(self._matrix(request, params.get("extrinsic_cv"))),
        )

    def _plane(self, request: ViewRequest, tensor: Any) -> Any:
        """Return one world's map, (height, width), of a tensor with or without worlds."""
        if tensor is None:
            return None
        array = self._copies.of(request.observation, tensor)
        array = array[..., 0] if array.shape[-1] == 1 else array
        return array[request.world] if array.ndim == 3 else array

    def _matrix(self, request: ViewRequest, tensor: Any) -> Any:
        """Return one world's matrix, float64, of a tensor with or without worlds."""
        if tensor is None:
            return None
        array = self._copies.of(request.observation, tensor).astype(np.float64)
        return array[request.world] if array.ndim == 3 else array


def _metres(depth: Any) -> Any:
    """Return metres, NaN for nothing, of ManiSkill's millimetres or of metres."""
    whole = depth.dtype.kind in "iu"
    return seen(depth.astype(np.float32) * _METRES if whole else depth)


def _square(extrinsics: Any) -> Any:
    """Return a (4, 4) matrix of a (3, 4) one."""
    if extrinsics is None or extrinsics.shape == (4, 4):
        return extrinsics
    return np.vstack([extrinsics, [0.0, 0.0, 0.0, 1.0]])


def _fitted(geometry: Geometry, camera: ObservedCamera) -> Geometry:
    return resized(geometry, camera.height, camera.width)


def _names(base: Any) -> dict[int, str]:
    """Return what each id of the segmentation is called."""
    known = getattr(base, "segmentation_id_map", {})
    names = {int(number): str(thing.name) for number, thing in known.items()}
    return {_NOTHING: "background", **names}


def _below(observation: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the dictionary at a path of an observation; empty if there is none."""
    for key in path:
        if not isinstance(observation, Mapping) or key not in observation:
            return {}
        observation = observation[key]
    return observation if isinstance(observation, Mapping) else {}
