"""Tabletops composed at random around a robot arm that someone else modelled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spie_robo.pretraining.model_paint import random_color
from spie_robo.pretraining.mujoco_world import LoadedModel, Orbit

if TYPE_CHECKING:
    import mujoco

_OBJECTS = 7
_PREFIX = "item_"


def compose_tabletop(robot: Path, seed: int, reach: float) -> LoadedModel:
    """A table with an arm at its edge and objects before it.

    Args:
        robot: MJCF file of the arm, whose base is at its origin.
        seed: Seed of table, objects, lights and sky.
        reach: Metres that the arm reaches: table and objects follow it.

    Returns:
        The model; every moment has objects of other sizes at other places.
    """
    import mujoco

    rng = np.random.default_rng([seed, 0xDE5C])
    spec = mujoco.MjSpec()
    _add_room(spec, rng, reach)
    mount = spec.worldbody.add_frame(pos=[0, 0, 0])
    arm = mujoco.MjSpec.from_file(str(robot))
    for site in list(arm.sites):  # marks for software; nothing of the arm
        arm.delete(site)
    spec.attach(arm, prefix="robot_", frame=mount)
    for index in range(_OBJECTS):
        _add_object(spec, index, rng)
    model = spec.compile()
    target = (0.55 * reach, 0.0, 0.12 * reach)
    orbit = Orbit(target, (1.0 * reach, 2.6 * reach), (80, 280), (-60, -8))
    home = np.array(model.qpos0)
    roles = {"robot_*": "robot", "table*": "surface"}

    def vary(changed: mujoco.MjModel, generator: np.random.Generator) -> None:
        _scatter(changed, home, generator, reach)

    return LoadedModel(model, orbit, home, roles=roles, vary=vary)  # type: ignore[arg-type]


def _add_room(spec: mujoco.MjSpec, rng: np.random.Generator, reach: float) -> None:
    """A table whose top is the plane z = 0, a checkered or plain floor, lights."""
    import mujoco

    world, kinds = spec.worldbody, mujoco.mjtGeom
    width, depth = rng.uniform(1.4, 3.0) * reach, rng.uniform(1.2, 1.8) * reach
    thick = rng.uniform(0.015, 0.05)
    middle = depth / 2 - rng.uniform(0.15, 0.4) * reach
    world.add_geom(
        name="table",
        type=kinds.mjGEOM_BOX,
        size=[depth / 2, width / 2, thick],
        pos=[middle, 0, -thick],
        rgba=[*random_color(rng, 0.3), 1],
    )
    texture = spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=128,
        height=128,
    )
    texture.rgb1, texture.rgb2 = random_color(rng, 0.3), random_color(rng, 0.3)
    material = spec.add_material(name="floor")
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    material.texrepeat = [4, 4]
    world.add_geom(
        name="floor",
        type=kinds.mjGEOM_PLANE,
        size=[4, 4, 0.1],
        pos=[0, 0, -rng.uniform(0.5, 0.9)],
        material="floor",
    )
    for _ in range(rng.integers(1, 4)):
        position = [*rng.uniform(-1.5, 1.5, 2), rng.uniform(1, 3)]
        direction = np.array([0.3, 0, 0]) - position
        world.add_light(pos=position, dir=direction / np.linalg.norm(direction))


def _add_object(spec: mujoco.MjSpec, index: int, rng: np.random.Generator) -> None:
    import mujoco

    kinds = mujoco.mjtGeom
    kind = (
        kinds.mjGEOM_BOX,
        kinds.mjGEOM_BOX,
        kinds.mjGEOM_CYLINDER,
        kinds.mjGEOM_SPHERE,
        kinds.mjGEOM_CAPSULE,
        kinds.mjGEOM_ELLIPSOID,
    )[int(rng.integers(6))]
    body = spec.worldbody.add_body(name=f"{_PREFIX}{index}", pos=[0, 0, -5])
    body.add_freejoint(name=f"{_PREFIX}{index}")
    body.add_geom(
        name=f"{_PREFIX}{index}",
        type=kind,
        size=[0.02, 0.02, 0.02],
        rgba=[*random_color(rng, 0.8), 1],
        contype=0,
        conaffinity=0,
    )


def _scatter(
    model: mujoco.MjModel, home: np.ndarray[tuple[int], np.dtype[np.float64]],
    rng: np.random.Generator, reach: float,
) -> None:  # fmt: skip
    """Give each object a size and a place on the table; some go out of sight below the floor."""
    import mujoco

    shown = int(rng.integers(1, _OBJECTS + 1))
    for index in range(_OBJECTS):
        geom = model.geom(f"{_PREFIX}{index}").id
        joint = model.joint(f"{_PREFIX}{index}").id
        size = reach * rng.uniform(0.02, 0.07, 3)
        model.geom_size[geom] = size
        kind = int(model.geom_type[geom])
        upright = {
            int(mujoco.mjtGeom.mjGEOM_BOX): size[2],
            int(mujoco.mjtGeom.mjGEOM_CYLINDER): size[1],
            int(mujoco.mjtGeom.mjGEOM_SPHERE): size[0],
            int(mujoco.mjtGeom.mjGEOM_CAPSULE): size[1] + size[0],
            int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): size[2],
        }[kind]
        x, y = rng.uniform(0.3, 0.95) * reach, rng.uniform(-0.55, 0.55) * reach
        place = int(model.jnt_qposadr[joint])
        home[place : place + 3] = [x, y, upright] if index < shown else [x, y, -9.0]
