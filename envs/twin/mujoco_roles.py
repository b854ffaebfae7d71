"""This module tells robot, surface, object and background of a MuJoCo model apart.

Names decide where they are known, and a user's own mapping before all; else the model itself
does: what an actuator moves is a robot, what stands still and is wide and flat is a surface, planes
are background, and the rest are objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

import numpy as np

from spie_robo.envs.scene_state import Role
from spie_robo.errors import ConfigError

if TYPE_CHECKING:
    import mujoco

_WORDS: tuple[tuple[Role, frozenset[str]], ...] = (
    (
        "surface",
        frozenset({"table", "tabletop", "desk", "counter", "counters", "countertop", "bench"}),
    ),
    (
        "robot",
        frozenset(
            "robot panda franka fetch arm gripper hand finger xarm jaco sawyer kuka iiwa".split()
        ),
    ),
    ("background", frozenset({"floor", "ground", "groundplane", "wall", "ceiling", "room"})),
)

_FLAT_AREA = 0.09
"""Square metres: something still, flat and this large is a surface to work on."""

_WALL_AREA = 1.0
"""Square metres: something still, thin, upright and this large is a wall."""

_THIN = 0.3
"""Largest thickness of a slab, as a share of its shorter side."""


def geom_roles(model: mujoco.MjModel, roles: Mapping[str, Role] | None = None) -> list[Role]:
    """The role of every geom.

    Args:
        model: The model.
        roles: Roles of geoms and bodies by name or pattern (``"drawer*"``), asked first; a
            body's role is also that of what hangs on it.

    Returns:
        One role a geom, in the model's order.

    Raises:
        ConfigError: If a role is unknown.
    """
    known = get_args(Role)
    for pattern, role in (roles or {}).items():
        if role not in known:
            raise ConfigError(f"roles[{pattern!r}]: expected one of {list(known)}, got {role!r}.")
    actuated = _actuated_trees(model)
    return [_geom_role(model, geom, actuated, roles or {}) for geom in range(model.ngeom)]


def _geom_role(
    model: mujoco.MjModel, geom: int, actuated: set[int], roles: Mapping[str, Role]
) -> Role:
    names = geom_names(model, geom)
    for name in names:
        for pattern, role in roles.items():
            if fnmatchcase(name, pattern):
                return role
    body = int(model.geom_bodyid[geom])
    if int(model.body_rootid[body]) in actuated:
        return "robot"
    if _is_plane(model, geom):
        return "background"
    still = int(model.body_weldid[body]) == 0
    # A drawer of a desk is no desk: only its own names and its body's count.
    for name in (model.geom(geom).name, model.body(body).name if body else ""):
        named = _named_role(name)
        if named is not None and (still or named != "background"):
            return named
    return _still_role(model, geom) if still else "object"


def geom_names(model: mujoco.MjModel, geom: int) -> list[str]:
    """Names of a geom and of the bodies that it hangs on, nearest first; unnamed ones left out."""
    names = [model.geom(geom).name]
    body = int(model.geom_bodyid[geom])
    while body:
        names.append(model.body(body).name)
        body = int(model.body_parentid[body])
    return [name for name in names if name]


def _named_role(name: str) -> Role | None:
    words = {word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", name.lower())}
    for role, known in _WORDS:
        if words & known:
            return role
    return None


def _actuated_trees(model: mujoco.MjModel) -> set[int]:
    """Root bodies of the kinematic trees that an actuator, or a weld to a mocap body, moves."""
    import mujoco

    trees = set()
    joint_kinds = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
    for actuator in range(model.nu):
        target = int(model.actuator_trnid[actuator, 0])
        kind = int(model.actuator_trntype[actuator])
        if kind in [int(value) for value in joint_kinds]:
            trees.add(int(model.body_rootid[model.jnt_bodyid[target]]))
        elif kind == int(mujoco.mjtTrn.mjTRN_TENDON):
            trees |= _trees_of_tendon(model, target)
    return trees


def _trees_of_tendon(model: mujoco.MjModel, tendon: int) -> set[int]:
    """Root bodies of the joints that a fixed tendon couples."""
    import mujoco

    first = int(model.tendon_adr[tendon])
    wraps = range(first, first + int(model.tendon_num[tendon]))
    joint = int(mujoco.mjtWrap.mjWRAP_JOINT)
    joints = [int(model.wrap_objid[i]) for i in wraps if int(model.wrap_type[i]) == joint]
    return {int(model.body_rootid[model.jnt_bodyid[j]]) for j in joints}


def _is_plane(model: mujoco.MjModel, geom: int) -> bool:
    import mujoco

    return int(model.geom_type[geom]) == int(mujoco.mjtGeom.mjGEOM_PLANE)


def _still_role(model: mujoco.MjModel, geom: int) -> Role:
    """The role of something that does not move and has no telling name."""
    extents = 2 * model.geom_aabb[geom, 3:]
    thinnest = int(np.argmin(extents))
    first, second = np.delete(extents, thinnest)
    if extents[thinnest] > _THIN * min(first, second):
        return "object"
    local_axis = np.zeros(3)
    local_axis[thinnest] = 1.0
    upright = abs(_world_axis(model, geom, local_axis)[2])
    if upright > 0.9 and first * second > _FLAT_AREA:
        return "surface"
    return "background" if upright < 0.1 and first * second > _WALL_AREA else "object"


def _world_axis(
    model: mujoco.MjModel, geom: int, axis: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A direction of a geom that hangs on the world without joints, in the world's frame."""
    import mujoco

    turned = axis.copy()
    mujoco.mju_rotVecQuat(turned, axis, model.geom_quat[geom])
    body = int(model.geom_bodyid[geom])
    while body:
        inner = turned.copy()
        mujoco.mju_rotVecQuat(turned, inner, model.body_quat[body])
        body = int(model.body_parentid[body])
    return turned
