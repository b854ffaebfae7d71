"""Random moments of a MuJoCo model: joints, objects, colours, lights and camera are drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Role, SceneState
from spie_robo.envs.twin import MujocoShapes
from spie_robo.envs.twin.mujoco_roles import geom_roles
from spie_robo.envs.twin.renderer import render_flat
from spie_robo.errors import EnvError
from spie_robo.pretraining.model_paint import ModelPaint, random_color, random_sky
from spie_robo.pretraining.worlds import CLASSES, GOAL, WorldView
from spie_robo.types import RGB

if TYPE_CHECKING:
    import mujoco

Range = tuple[float, float]

_TRIES = 60
_DEEPEST_CONTACT = -0.006
_FLAT_SHARE = 0.12


@dataclass(frozen=True)
class Orbit:
    """Cameras that look at one place from a range of directions.

    Attributes:
        target: Metres, world frame.
        distance: Lowest and highest, metres.
        azimuth: Lowest and highest, degrees, as in MuJoCo's free camera.
        elevation: Lowest and highest, degrees; negative is from above.
    """

    target: tuple[float, float, float]
    distance: Range
    azimuth: Range
    elevation: Range = (-55.0, -12.0)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and how to draw moments of it.

    Attributes:
        model: The model.
        home: float64, (nq,): joint positions to start from; None: its first keyframe or default.
        orbit: Where free cameras stand.
        cameras: Cameras of the model that are used too.
        roles: See :func:`spie_robo.envs.twin.mujoco_roles.geom_roles`.
        frozen: Patterns of joints that stay at home.
        vary: Changes the model before each moment, e.g. sizes of objects.
    """

    model: mujoco.MjModel
    orbit: Orbit
    home: NDArray[np.float64] | None = None
    cameras: tuple[str, ...] = ()
    roles: Mapping[str, Role] | None = None
    frozen: tuple[str, ...] = ()
    vary: Callable[[mujoco.MjModel, np.random.Generator], None] | None = None


@final
class PairWorld:
    """Draws moments of a MuJoCo model and renders them.

    Args:
        name: What the world is called.
        loaded: The model.
        size: Height and width in pixels.
    """

    def __init__(self, name: str, loaded: LoadedModel, size: int) -> None:
        """Make a renderer, which needs EGL or OSMesa: ``MUJOCO_GL=egl``."""
        import mujoco

        self.name = name
        self._mujoco, self._loaded, self._size = mujoco, loaded, size
        model = loaded.model
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        self._data = mujoco.MjData(model)
        if model.nkey:
            mujoco.mj_resetDataKeyframe(model, self._data, 0)
        home = self._data.qpos.copy() if loaded.home is None else loaded.home
        # Not a copy: what varies a model also moves its objects' home.
        self._home = np.asarray(home, np.float64)
        self._roles = geom_roles(model, loaded.roles)
        self._paint = ModelPaint(model, self._roles)
        self._renderer: Any = mujoco.Renderer(model, size, size)
        self._scene = MujocoShapes(model, self._data, roles=loaded.roles)

    def sample(self, rng: np.random.Generator) -> WorldView:
        """A random moment in which robot or objects can be seen.

        Raises:
            EnvError: If none is found.
        """
        for _ in range(_TRIES):
            if self._loaded.vary is not None:
                self._loaded.vary(self._loaded.model, rng)
            self._pose(rng)
            if self._collides():
                continue
            camera = self._camera(rng)
            depth, instances, classes = self._geometry(camera)
            if self._shows_enough(depth, classes):
                return self._draw(rng, camera, depth, instances, classes)
        raise EnvError(f"World {self.name}: no moment in {_TRIES} showed robot or objects.")

    def _pose(self, rng: np.random.Generator) -> None:
        model, data = self._loaded.model, self._data
        data.qpos[:] = self._home
        data.qvel[:] = 0
        robot_bodies = {
            int(model.geom_bodyid[geom]) for geom, role in enumerate(self._roles) if role == "robot"
        }
        robot_roots = {int(model.body_rootid[body]) for body in robot_bodies}
        for joint in range(model.njnt):
            if any(
                fnmatchcase(model.joint(joint).name, pattern) for pattern in self._loaded.frozen
            ):
                continue
            self._move(joint, int(model.body_rootid[model.jnt_bodyid[joint]]) in robot_roots, rng)
        self._mujoco.mj_forward(model, data)

    def _move(self, joint: int, of_robot: bool, rng: np.random.Generator) -> None:
        model, qpos = self._loaded.model, self._data.qpos
        place, kind = int(model.jnt_qposadr[joint]), int(model.jnt_type[joint])
        if kind == int(self._mujoco.mjtJoint.mjJNT_FREE):
            qpos[place : place + 2] += rng.normal(0, 0.08, 2)
            turn = rng.uniform(-np.pi, np.pi)
            spin = np.array([np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
            turned = np.zeros(4)
            self._mujoco.mju_mulQuat(turned, spin, self._home[place + 3 : place + 7])
            qpos[place + 3 : place + 7] = turned
            return
        if kind == int(self._mujoco.mjtJoint.mjJNT_BALL):
            return
        low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-np.pi, np.pi)
        if of_robot:
            spread = 0.12 * min(high - low, 4.0)
            home = self._home[place]
            middle = home if low <= home <= high else (low + high) / 2
            qpos[place] = np.clip(middle + rng.normal(0, spread), low, high)
        elif model.jnt_limited[joint] and rng.random() < 0.4:
            qpos[place] = rng.uniform(low, high)

    def _collides(self) -> bool:
        """Return whether the robot is inside something else."""
        model, data = self._loaded.model, self._data
        for contact in data.contact[: data.ncon]:
            roles = [self._roles[geom] for geom in contact.geom if geom >= 0]
            roots = {int(model.body_rootid[model.geom_bodyid[g]]) for g in contact.geom if g >= 0}
            if "robot" in roles and len(roots) > 1 and contact.dist < _DEEPEST_CONTACT:
                return True
        return False

    def _camera(self, rng: np.random.Generator) -> Any:
        loaded = self._loaded
        if loaded.cameras and rng.random() < 0.35:
            return loaded.cameras[int(rng.integers(len(loaded.cameras)))]
        camera = self._mujoco.MjvCamera()
        camera.lookat[:] = np.array(loaded.orbit.target) + rng.normal(0, 0.05, 3)
        camera.distance = rng.uniform(*loaded.orbit.distance)
        camera.azimuth = rng.uniform(*loaded.orbit.azimuth)
        camera.elevation = rng.uniform(*loaded.orbit.elevation)
        return camera

    def _geometry(
        self, camera: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint8]]:
        """Depth, instances and classes of what MuJoCo draws."""
        renderer, objects = self._renderer, self._mujoco.mjtObj
        renderer.enable_depth_rendering()
        renderer.update_scene(self._data, camera=camera)
        depth = renderer.render().copy()
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        renderer.update_scene(self._data, camera=camera)
        segmentation = renderer.render()
        renderer.disable_segmentation_rendering()
        numbers, kinds = segmentation[..., 0], segmentation[..., 1]
        instances = np.full(numbers.shape, -1, np.int32)
        classes = np.zeros(numbers.shape, np.uint8)
        geoms = kinds == int(objects.mjOBJ_GEOM)
        instances[geoms] = numbers[geoms]
        table = np.array([CLASSES[role] for role in self._roles], np.uint8)
        classes[geoms] = table[numbers[geoms]]
        sites = kinds == int(objects.mjOBJ_SITE)
        instances[sites] = self._loaded.model.ngeom + numbers[sites]
        classes[sites] = GOAL
        return np.where(instances < 0, 0, depth).astype(np.float32), instances, classes

    def _shows_enough(self, depth: NDArray[np.float32], classes: NDArray[np.uint8]) -> bool:
        """Neither an empty picture nor one that something before the lens fills."""
        movable = classes >= CLASSES["robot"]
        near = (depth > 0) & (depth < 0.1)
        return 0.01 < movable.mean() < 0.7 and bool(near.mean() < 0.02)

    def _draw(
        self,
        rng: np.random.Generator,
        camera: Any,
        depth: NDArray[np.float32],
        instances: NDArray[np.int32],
        classes: NDArray[np.uint8],
    ) -> WorldView:
        self._paint.paint(rng)
        self._mujoco.mj_camlight(self._loaded.model, self._data)
        self._scene.refit()
        state = self._scene.state([camera], self._size, self._size)
        if rng.random() < _FLAT_SHARE:
            rgb, drawn_by = self._flat(state, rng), "mitsuba"
        else:
            rgb, drawn_by = self._raster(camera, rng), "mujoco"
        if rng.random() < 0.7:
            nothing = instances < 0
            rgb[nothing] = random_sky(rng, self._size, self._size)[nothing]
        return WorldView(rgb, depth, instances, classes, state, state.cameras[0], drawn_by)

    def _raster(self, camera: Any, rng: np.random.Generator) -> RGB:
        flags, names = self._renderer.scene.flags, self._mujoco.mjtRndFlag
        flags[int(names.mjRND_SHADOW)] = rng.random() < 0.6
        flags[int(names.mjRND_REFLECTION)] = rng.random() < 0.6
        self._renderer.update_scene(self._data, camera=camera)
        return np.array(self._renderer.render(), np.uint8)

    def _flat(self, state: SceneState, rng: np.random.Generator) -> RGB:
        sun = (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1)), -1.2)
        shapes = tuple(shape for shape in state.shapes if shape.instance >= 0)
        tint = 0.7 + 0.3 * random_color(rng, vivid=0.2)
        plain = SceneState(shapes, state.cameras, state.focus)
        image = render_flat(plain, state.cameras[0], sun, float(rng.uniform(0.3, 0.8)))
        return np.asarray(image * tint, np.uint8)
