"""Build the PyBullet world: a table in a room, a Franka Panda on it, and objects.

World frame, metres: x forward from the robot's base, y to its left, z up; the origin is the
robot's base, and the table top is the plane z = 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy as np
import pybullet_data
from numpy.typing import NDArray

from spie_robo.envs.quiet_pybullet import (
    STDOUT,
    BulletClient,
    pybullet,
    without_native_output,
)
from spie_robo.envs.scene_state import CameraPose, Role, SceneState, Shape, ShapeKind

FLOOR_HEIGHT = -0.72
TABLE_CENTRE = (0.30, 0.0)
TABLE_SIZE = (1.00, 1.40, 0.04)
WALL_DISTANCE = 0.85
PHYSICS_RATE = 240

Vector: TypeAlias = Sequence[float] | NDArray[np.float64]

DEFAULT_COLORS: dict[str, tuple[float, float, float]] = {
    "floor": (0.45, 0.47, 0.50),
    "wall": (0.75, 0.78, 0.80),
    "table": (0.62, 0.60, 0.57),
    "cube": (0.85, 0.12, 0.10),
    "goal": (0.15, 0.70, 0.25),
}

_GEOMETRY_KINDS: dict[int, ShapeKind] = {
    pybullet.GEOM_BOX: "box",
    pybullet.GEOM_SPHERE: "sphere",
    pybullet.GEOM_CYLINDER: "cylinder",
    pybullet.GEOM_MESH: "mesh",
}

_ROLES: dict[str, Role] = {
    "table": "surface",
    "wall": "background",
    "floor": "background",
    "panda": "robot",
}

_DRAWN_SPHERE = 0.966
"""Factor on the radius of a sphere in the scene's state.

TinyRenderer draws a sphere as a hull of 42 vertices inside it, whose silhouette has the area of a
sphere this much smaller. The state holds the sizes that the simulator's camera shows.
"""


@final
class TabletopScene:
    """A physics client and everything in it.

    Args:
        panda: Load the robot. Without it the scene is a table without a robot.

    Attributes:
        client: The ``BulletClient``; scenes in one process share nothing.
        panda: Body id of the robot, or None.
        names: Name of each body id.
    """

    def __init__(self, panda: bool = True) -> None:
        """Connect to PyBullet and build the room."""
        with without_native_output(STDOUT):
            self.client: Any = BulletClient(pybullet.DIRECT)
        self.client.setAdditionalSearchPath(pybullet_data.getDataPath())
        self.client.setGravity(0, 0, -9.81)
        self.client.setTimeStep(1 / PHYSICS_RATE)
        self.client.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
        self.names: dict[int, str] = {}
        self._add_room()
        self.panda: int | None = None
        if panda:
            self.panda = self.client.loadURDF("franka_panda/panda.urdf", useFixedBase=True)
            self.names[self.panda] = "panda"

    def _add_room(self) -> None:
        x, y = TABLE_CENTRE
        length, width, thickness = TABLE_SIZE
        floor = (6.0, 6.0, 0.1)
        self.add_box("floor", floor, (x, y, FLOOR_HEIGHT - 0.05), collide=False)
        wall = (0.1, 6.0, 3.5)
        self.add_box("wall", wall, (-WALL_DISTANCE - 0.05, 0, FLOOR_HEIGHT + 1.75), collide=False)
        self.add_box("table", TABLE_SIZE, (x, y, -thickness / 2))
        leg = (0.06, 0.06, -FLOOR_HEIGHT - thickness)
        for side_x in (-1, 1):
            for side_y in (-1, 1):
                corner = (
                    x + side_x * (length / 2 - 0.06),
                    y + side_y * (width / 2 - 0.06),
                    (FLOOR_HEIGHT - thickness) / 2,
                )
                self.add_box("table", leg, corner, collide=False)

    def add_box(
        self,
        name: str,
        size: Vector,
        position: Vector,
        *,
        mass: float = 0.0,
        color: Sequence[float] | None = None,
        collide: bool = True,
    ) -> int:
        """Add a box of edge lengths ``size`` and return its body id."""
        half = [edge / 2 for edge in size]
        kind = {"shapeType": pybullet.GEOM_BOX, "halfExtents": half}
        return self._add(name, kind, kind, position, mass, color, collide)

    def add_sphere(
        self,
        name: str,
        radius: float,
        position: Vector,
        *,
        mass: float = 0.0,
        color: Sequence[float] | None = None,
        collide: bool = True,
    ) -> int:
        """Add a sphere and return its body id."""
        kind = {"shapeType": pybullet.GEOM_SPHERE, "radius": radius}
        return self._add(name, kind, kind, position, mass, color, collide)

    def add_cylinder(
        self,
        name: str,
        radius: float,
        height: float,
        position: Vector,
        *,
        mass: float = 0.0,
        color: Sequence[float] | None = None,
        collide: bool = True,
    ) -> int:
        """Add an upright cylinder and return its body id."""
        kind = {"shapeType": pybullet.GEOM_CYLINDER, "radius": radius}
        return self._add(
            name, {**kind, "height": height}, {**kind, "length": height}, position, mass, color,
            collide,
        )  # fmt: skip

    def _add(
        self,
        name: str,
        collision: dict[str, Any],
        visual: dict[str, Any],
        position: Vector,
        mass: float,
        color: Sequence[float] | None,
        collide: bool,
    ) -> int:
        rgb = DEFAULT_COLORS.get(name, (0.5, 0.5, 0.5)) if color is None else tuple(color)
        visual_id = self.client.createVisualShape(
            **visual, rgbaColor=[*rgb, 1], specularColor=[0.1, 0.1, 0.1]
        )
        collision_id = self.client.createCollisionShape(**collision) if collide else -1
        body = int(
            self.client.createMultiBody(
                baseMass=mass,
                baseCollisionShapeIndex=collision_id,
                baseVisualShapeIndex=visual_id,
                basePosition=list(position),
            )
        )
        self.names[body] = name
        return body

    def bodies(self, name: str) -> list[int]:
        """Return the ids of all bodies called ``name``."""
        return [body for body, other in self.names.items() if other == name]

    def place(self, body: int, position: Vector, yaw: float = 0.0, tilt: float = 0.0) -> None:
        """Place a body at rest; angles in radians."""
        orientation = self.client.getQuaternionFromEuler([tilt, 0, yaw])
        self.client.resetBasePositionAndOrientation(body, list(position), orientation)
        self.client.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])

    def remove(self, body: int) -> None:
        """Remove a body from the world."""
        self.client.removeBody(body)
        del self.names[body]

    def position(self, body: int) -> NDArray[np.float64]:
        """Return the position of a body, float64 (3,), metres."""
        return np.array(self.client.getBasePositionAndOrientation(body)[0])

    def state(self, cameras: Sequence[CameraPose]) -> SceneState:
        """Return everything that is visible, as plain data."""
        shapes = [shape for body in self.names for shape in self._shapes(body)]
        return SceneState(tuple(shapes), tuple(cameras))

    def _shapes(self, body: int) -> Iterator[Shape]:
        for data in self.client.getVisualShapeData(body):
            _, link, geometry, size, mesh, position, orientation, rgba = data[:8]
            kind = _GEOMETRY_KINDS.get(geometry)
            if kind is None or rgba[3] == 0:
                continue
            link_pose = self._link_pose(body, link)
            pose = self.client.multiplyTransforms(*link_pose, position, orientation)
            yield Shape(
                name=self.names[body],
                instance=body,
                kind=kind,
                size=_drawn_size(kind, size),
                pose=self._matrix(*pose),
                color=rgba[:3],
                mesh=mesh.decode() if kind == "mesh" else "",
                role=_ROLES.get(self.names[body], "object"),
            )

    def _link_pose(self, body: int, link: int) -> tuple[Sequence[float], Sequence[float]]:
        """Return the world pose of a link's URDF frame, which differs from the inertial frame."""
        if link >= 0:
            state = self.client.getLinkState(body, link, computeForwardKinematics=True)
            return state[4], state[5]
        position, orientation = self.client.getBasePositionAndOrientation(body)
        dynamics = self.client.getDynamicsInfo(body, -1)
        inertial = self.client.invertTransform(dynamics[3], dynamics[4])
        pose: tuple[Sequence[float], Sequence[float]] = self.client.multiplyTransforms(
            position, orientation, *inertial
        )
        return pose

    def _matrix(
        self, position: Sequence[float], orientation: Sequence[float]
    ) -> NDArray[np.float64]:
        pose = np.eye(4)
        pose[:3, :3] = np.reshape(self.client.getMatrixFromQuaternion(orientation), (3, 3))
        pose[:3, 3] = position
        return pose

    def close(self) -> None:
        """Disconnect; calling it twice is allowed."""
        if self.client is not None:
            self.client.disconnect()
            self.client = None


def _drawn_size(kind: ShapeKind, size: Sequence[float]) -> tuple[float, ...]:
    """Return the size of a shape as its camera shows it, in the order of :class:`Shape`."""
    if kind == "sphere":
        return (_DRAWN_SPHERE * size[0],)
    return (size[0], size[1]) if kind == "cylinder" else tuple(size)
