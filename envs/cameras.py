"""Render PyBullet cameras: matrices, the two renderers, and ground truth in metric units."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.quiet_pybullet import pybullet
from spie_robo.envs.scene_state import CameraPose
from spie_robo.errors import EnvError
from spie_robo.types import RGB, Geometry

Renderer = Literal["tiny", "egl", "auto"]

DEFAULT_LIGHT: dict[str, Any] = {
    "lightDirection": [0.6, 0.7, 2.0],
    "lightColor": [1.0, 1.0, 1.0],
    "lightDistance": 2.0,
    "shadow": 0,
    "lightAmbientCoeff": 0.6,
    "lightDiffuseCoeff": 0.35,
    "lightSpecularCoeff": 0.05,
}
"""Light of TinyRenderer, complete: PyBullet keeps every value that a call leaves out."""

_OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])

_EGL_PROBE = """
import importlib.util, pybullet as p
p.connect(p.DIRECT)
plugin = p.loadPlugin(importlib.util.find_spec("eglRenderer").origin, "_eglRendererPlugin")
image = p.getCameraImage(16, 16, renderer=p.ER_BULLET_HARDWARE_OPENGL)[2]
raise SystemExit(0 if plugin >= 0 else 1)
"""


def view_matrix(camera: CameraPose) -> list[float]:
    """Return the OpenGL view matrix, column-major, as PyBullet expects it."""
    return list((_OPENCV_TO_OPENGL @ camera.extrinsics).T.ravel())


def projection_matrix(camera: CameraPose, hardware: bool = False) -> list[float]:
    """Return the OpenGL projection matrix, column-major, as PyBullet expects it.

    TinyRenderer samples a pixel at its bottom-left corner instead of its centre (measured: the
    depth of a plane fits row + 1 to 4e-6 m, and row + 0.5 only to 4e-3 m), so its principal
    point is moved by half a pixel each way. Without this no other data is aligned with the image.
    """
    matrix = list(
        pybullet.computeProjectionMatrixFOV(
            fov=camera.vertical_fov,
            aspect=camera.width / camera.height,
            nearVal=camera.near,
            farVal=camera.far,
        )
    )
    if not hardware:
        matrix[8] += 1 / camera.width
        matrix[9] += 1 / camera.height
    return matrix


def depth_in_metres(buffer: NDArray[np.float32], camera: CameraPose) -> NDArray[np.float32]:
    """Turn an OpenGL depth buffer in 0..1 into distance along the optical axis in metres."""
    near, far = camera.near, camera.far
    metres = far * near / (far - (far - near) * buffer.astype(np.float64))
    return metres.astype(np.float32)


def image_arrays(
    answer: Sequence[Any],
) -> tuple[RGB, NDArray[np.float32], NDArray[np.int32]]:
    """Convert the answer of ``getCameraImage`` to new arrays.

    PyBullet with NumPy (``pybullet``) returns arrays; without it (``pybullet-arm64``, which Python
    3.12 needs) it returns flat tuples of numbers, which ``bytes`` and ``np.fromiter`` read in half
    the time of ``np.array``.

    Args:
        answer: Width, height, RGBA in 0..255, depth buffer in 0..1, and body ids.

    Returns:
        The image, uint8 (height, width, 3); the depth buffer, float32 (height, width); the ids,
        int32 (height, width).
    """
    width, height, rgba, buffer, ids = answer
    if isinstance(rgba, tuple):
        rgba = np.frombuffer(bytes(rgba), np.uint8)
        buffer = np.fromiter(buffer, np.float32, len(buffer))
        ids = np.fromiter(ids, np.int32, len(ids))
    colors = np.reshape(rgba, (height, width, 4))[:, :, :3]
    return (
        np.ascontiguousarray(colors, dtype=np.uint8),
        np.array(buffer, np.float32).reshape(height, width),
        np.array(ids, np.int32).reshape(height, width),
    )


def render(
    client: Any,
    camera: CameraPose,
    names: Mapping[int, str],
    light: Mapping[str, Any] | None = None,
    hardware: bool = False,
) -> tuple[RGB, Geometry]:
    """Render an image and its ground truth.

    Args:
        client: A ``BulletClient``.
        camera: Pose and lens of the camera.
        names: Name of each body id, for the segmentation.
        light: Keyword arguments of ``getCameraImage`` such as ``lightDirection``.
        hardware: Use the EGL plugin, which must be loaded into ``client``.

    Returns:
        The image, uint8 (height, width, 3), and its geometry. Empty pixels have segmentation -1
        and depth ``camera.far``.
    """
    answer = client.getCameraImage(
        camera.width,
        camera.height,
        view_matrix(camera),
        projection_matrix(camera, hardware),
        renderer=client.ER_BULLET_HARDWARE_OPENGL if hardware else client.ER_TINY_RENDERER,
        **(DEFAULT_LIGHT if light is None else light),
    )
    rgb, buffer, ids = image_arrays(answer)
    geometry = Geometry(
        depth=depth_in_metres(buffer, camera),
        segmentation=ids,
        names=dict(names),
        intrinsics=camera.intrinsics,
        extrinsics=camera.extrinsics.copy(),
    )
    return rgb, geometry


@functools.cache
def egl_available() -> bool:
    """Return whether PyBullet's EGL plugin renders on this machine.

    The test runs in another process, because without an EGL device the plugin ends its process.
    """
    command = [sys.executable, "-c", _EGL_PROBE]
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def load_hardware_renderer(client: Any, renderer: Renderer) -> bool:
    """Load the EGL plugin into ``client`` if ``renderer`` asks for it.

    Returns:
        True if the plugin was loaded.

    Raises:
        EnvError: If ``renderer`` is unknown, or ``"egl"`` and the plugin does not work here.
    """
    if renderer not in ("tiny", "egl", "auto"):
        raise EnvError(f"renderer: expected 'tiny', 'egl' or 'auto', got {renderer!r}.")
    if renderer == "tiny" or (renderer == "auto" and not egl_available()):
        return False
    if not egl_available():
        raise EnvError(
            "renderer='egl': PyBullet's EGL plugin does not work on this machine (no EGL device "
            "or driver). Use renderer='tiny', or 'auto' to take EGL only where it loads."
        )
    import importlib.util

    specification = importlib.util.find_spec("eglRenderer")
    assert specification is not None and specification.origin is not None
    return bool(client.loadPlugin(specification.origin, "_eglRendererPlugin") >= 0)
