"""PyBullet, and panda-gym on top of it.

Release 3.2.7: pictures stand upright; depth is a z-buffer; the segmentation holds the number of
the body, -1 for nothing (to be tested before links are decoded from it). A number is used again
after ``removeBody``, so names are read anew for every picture. TinyRenderer draws half a pixel
off: it samples a pixel at its bottom-left corner, which the intrinsics here say. It draws no
shadow unless asked, and its light direction points *to* the light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import EnvError
from spie_robo.simulators.pinhole import depth_from_buffer, projection_intrinsics, view_extrinsics
from spie_robo.simulators.views import (
    CameraView,
    ObservedCamera,
    ViewRequest,
    layers,
    resized,
)
from spie_robo.types import Geometry

_NOTHING = -1
_DIRECT = 2  # pybullet.DIRECT: no window, so TinyRenderer draws whatever renderer is asked for


@final
@dataclass(frozen=True, eq=False)
class BulletCamera:
    """A camera as ``getCameraImage`` takes it.

    Attributes:
        view: ``viewMatrix``, 16 numbers, column-major.
        projection: ``projectionMatrix``, 16 numbers, column-major.
        height: Rows that the env draws; None for those of the observation.
        width: Columns that the env draws.
        hardware: Whether it draws with OpenGL and not with TinyRenderer.
    """

    view: tuple[float, ...]
    projection: tuple[float, ...]
    height: int | None = None
    width: int | None = None
    hardware: bool = False


CameraFinder: TypeAlias = Callable[[Any, str], BulletCamera]
"""``function(env, camera of the wrapper) -> BulletCamera``, called for every picture."""


@final
class PyBullet:
    """Geometry of PyBullet's pictures, for ``geometry=``.

    panda-gym needs no argument. For another env give the client and the cameras.

    Example:
        >>> import pybullet
        >>> view = pybullet.computeViewMatrix([1, 0, 1], [0, 0, 0], [0, 0, 1])
        >>> projection = pybullet.computeProjectionMatrixFOV(60, 1, 0.1, 10)
        >>> camera = BulletCamera(view, projection)
        >>> PyBullet(pybullet, lambda env, name: camera).name
        'PyBullet'
    """

    name = "PyBullet"

    def __init__(
        self,
        client: Any = None,
        camera: CameraFinder | None = None,
        *,
        names: Mapping[int, str] | None = None,
    ) -> None:
        """Choose the client and the cameras.

        Args:
            client: The ``BulletClient``, or the module; None finds panda-gym's.
            camera: Returns the matrices of each camera; None reads panda-gym's render settings.
            names: What bodies are called; None asks panda-gym, and else PyBullet.

        Raises:
            EnvError: If only one of client and camera is given.
        """
        if (client is None) != (camera is None):
            raise EnvError("PyBullet: expected client and camera, or neither, got one of the two.")
        self._client, self._camera, self._names = client, camera, names

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return what PyBullet knows about the cameras of a request, by name.

        Raises:
            EnvError: If there is no PyBullet client in the env.
        """
        if not request.live:
            return {}
        client, bodies = self._client, None
        if client is None:
            sim = find_panda_sim(request.env)
            if sim is None:
                raise EnvError(
                    f"geometry: expected a panda-gym environment, got {request.env}. Give the "
                    "client and its cameras: geometry=PyBullet(client, lambda env, name: "
                    "BulletCamera(view, projection))."
                )
            client, bodies = sim.physics_client, getattr(sim, "_bodies_idx", None)
        names = dict(self._names or _names(client, bodies))
        find = self._camera or panda_camera
        return {
            camera.name: CameraView(_draw(client, find(request.env, camera.name), camera, names))
            for camera in request.cameras
        }


def find_panda_sim(env: Any) -> Any:
    """Return panda-gym's simulation inside an env; None if there is none."""
    for layer in layers(env):
        sim = vars(layer).get("sim") if hasattr(layer, "__dict__") else None
        if hasattr(sim, "physics_client") and hasattr(layer, "render_distance"):
            return sim
    return None


def panda_camera(env: Any, name: str) -> BulletCamera:
    """Return the camera that panda-gym 3.0.7 renders with, whatever it is called."""
    base = env.unwrapped
    client = base.sim.physics_client
    view = client.computeViewMatrixFromYawPitchRoll(
        cameraTargetPosition=base.render_target_position,
        distance=base.render_distance,
        yaw=base.render_yaw,
        pitch=base.render_pitch,
        roll=base.render_roll,
        upAxisIndex=2,
    )
    height, width = base.render_height, base.render_width
    projection = client.computeProjectionMatrixFOV(
        fov=60, aspect=float(width) / height, nearVal=0.1, farVal=100.0
    )
    hardware = base.sim.connection_mode != _DIRECT
    return BulletCamera(tuple(view), tuple(projection), height, width, hardware)


def _draw(
    client: Any, camera: BulletCamera, observed: ObservedCamera, names: Mapping[int, str]
) -> Geometry:
    """Return the geometry of a camera's picture at the size of the observation."""
    height, width = camera.height or observed.height, camera.width or observed.width
    renderer = client.ER_BULLET_HARDWARE_OPENGL if camera.hardware else client.ER_TINY_RENDERER
    _, _, _, buffer, ids = client.getCameraImage(
        width, height, camera.view, camera.projection, renderer=renderer
    )
    # Flat tuples where PyBullet was built without NumPy.
    segmentation = np.reshape(ids, (height, width)).astype(np.int32)
    depth = depth_from_buffer(np.reshape(buffer, (height, width)), camera.projection)
    depth[segmentation == _NOTHING] = np.nan
    drawn = Geometry(
        depth,
        segmentation,
        names,
        _intrinsics(camera, height, width),
        view_extrinsics(camera.view),
    )
    return resized(drawn, observed.height, observed.width)


def _intrinsics(camera: BulletCamera, height: int, width: int) -> NDArray[np.float64]:
    matrix = projection_intrinsics(camera.projection, height, width)
    if not camera.hardware:
        matrix[0, 2] += 0.5
        matrix[1, 2] -= 0.5
    return matrix


def _names(client: Any, bodies: Mapping[str, int] | None) -> dict[int, str]:
    """Return what each body that is there now is called."""
    names = {_NOTHING: "background"}
    for index in range(client.getNumBodies()):
        body = client.getBodyUniqueId(index)
        base, body_name = (part.decode() for part in client.getBodyInfo(body)[:2])
        names[body] = body_name or base or f"body_{body}"
    return names | {int(body): name for name, body in (bodies or {}).items()}
