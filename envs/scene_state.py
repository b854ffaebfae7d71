"""Describe a scene at one instant as plain data, for any renderer.

A :class:`SceneState` holds no simulator handle: it can be sent to another process, stored, and
rendered by any renderer. The photoreal twin reads nothing else. PyBullet fills it
(:meth:`spie_robo.envs.scene.TabletopScene.state`) and so does MuJoCo
(:mod:`spie_robo.envs.twin.mujoco_state`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ShapeKind = Literal["box", "sphere", "cylinder", "capsule", "ellipsoid", "mesh"]

Role = Literal["robot", "surface", "object", "background"]
"""Role of a shape in a lab.

Surfaces (tables) and the background (floor, walls) take the lab's materials; robots and objects
keep their own colours.
"""

TABLE_POINT = (0.4, 0.0, 0.0)
"""Middle of our table in its world frame, metres; styles place their lamps around it."""


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A mesh of triangles in its own frame; every corner is a separate vertex.

    Attributes:
        vertices: float32, (3 * triangles, 3), metres.
        normals: float32, (3 * triangles, 3), shading normals of unit length.
        texcoords: float32, (3 * triangles, 2), or None. For surfaces and background: metres along
            the surface; otherwise shares of :attr:`Shape.texture`, v downwards.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    texcoords: NDArray[np.float32] | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content in hex, so that equal meshes are built only once."""
        digest = hashlib.sha256(self.vertices.tobytes())
        digest.update(self.normals.tobytes())
        digest.update(b"" if self.texcoords is None else self.texcoords.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Shape:
    """One visual shape in the world.

    Attributes:
        name: Name of the shape's instance, e.g. ``"cube"``.
        instance: Segmentation id of that instance.
        kind: Primitive or mesh.
        size: In metres. Box: three edge lengths; sphere: (radius,); cylinder and capsule (along
            local z): (length, radius), a capsule's length without its caps; ellipsoid: three
            radii; mesh: three scale factors.
        pose: float64, (4, 4), local to world.
        color: Linear rgb in 0..1, as in the simulator.
        mesh: Path of the OBJ file of a mesh; empty otherwise.
        triangles: The mesh itself, in place of a file.
        role: Role of the shape in a lab.
        opacity: Opacity from 0 (invisible) to 1.
        texture: uint8, (height, width, 3), sRGB, multiplied with the colour; None: plain.
        texture_repeats: Number of repeats of the texture along its two axes.
    """

    name: str
    instance: int
    kind: ShapeKind
    size: tuple[float, ...]
    pose: NDArray[np.float64]
    color: tuple[float, float, float]
    mesh: str = ""
    triangles: TriangleMesh | None = None
    role: Role = "object"
    opacity: float = 1.0
    texture: NDArray[np.uint8] | None = None
    texture_repeats: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class CameraPose:
    """A pinhole camera with square pixels.

    Attributes:
        name: Name of the camera.
        extrinsics: float64, (4, 4), world to camera; x right, y down, z forward (OpenCV).
        vertical_fov: Vertical field of view, degrees.
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        near: Distance of the near plane, metres.
        far: Distance of the far plane, metres.
    """

    name: str
    extrinsics: NDArray[np.float64]
    vertical_fov: float
    height: int
    width: int
    near: float = 0.01
    far: float = 6.0

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """Pinhole matrix in pixels, float64, (3, 3); pixel centres at half-integers."""
        focal = 0.5 * self.height / np.tan(np.radians(self.vertical_fov) / 2)
        return np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1.0]])


@dataclass(frozen=True, eq=False)
class SceneState:
    """The shapes and cameras that a renderer needs.

    Attributes:
        shapes: All visual shapes.
        cameras: All cameras.
        focus: Point in the world that a lab's lamps hang around, metres.
    """

    shapes: tuple[Shape, ...]
    cameras: tuple[CameraPose, ...]
    focus: tuple[float, float, float] = TABLE_POINT

    def camera(self, name: str) -> CameraPose:
        """Return the camera called ``name``.

        Raises:
            KeyError: If there is no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"no camera {name!r}; there are {[c.name for c in self.cameras]}")


def look_at(
    eye: NDArray[np.float64], target: NDArray[np.float64], up: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the world-to-camera matrix of a camera at ``eye`` that looks at ``target``.

    Args:
        eye: (3,), position of the camera, metres.
        target: (3,), point to look at, metres.
        up: (3,), direction that is up in the image; not parallel to the line of sight.

    Returns:
        float64, (4, 4); x right, y down, z forward (OpenCV).
    """
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = np.stack([right, down, forward])
    extrinsics[:3, 3] = -extrinsics[:3, :3] @ eye
    return extrinsics
