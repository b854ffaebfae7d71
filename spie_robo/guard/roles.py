"""Roles of what a frame shows: by name where names say something, else by shape.

Guard and feedback ask the same question of a segmentation: is this region part of the robot, a
surface of the lab, or an object of the task? Names are tried against a table of patterns, which
users extend with ``roles={"tablelink": "surface"}``; ids without a telling name are judged by where
they lie in the picture.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import ConfigError

Role: TypeAlias = Literal["background", "surface", "robot", "object", "goal"]
"""Role of a region in the task: surfaces carry things, background lies behind everything."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)

_GOAL: Final = r"goal|target|marker|targetsite|(?<=^)visual [a-z]+(?: \d+)?(?=$)"
_SURFACE: Final = (
    r"tables?|tabletop|desk|desktop|counter|countertop|bench|benchtop|workbench|shelf|bins?|"
    r"retaining wall"
)
_BACKGROUND: Final = (
    r"background|floors?|ground|ground plane|groundplane|plane|walls?|ceiling|sky|skybox|world|"
    r"room|backdrop|void|none|terrain|arena|horizon"
)
_ROBOT: Final = (
    r"robots?|panda|franka|sawyer|baxter|kuka|iiwa|jaco|xarm|ur ?\d+e?|vx ?\d+s?|gripper|arm|hand|"
    r"fingers?|(?:left|right)(?:finger|claw|pad)|wrist|forearm|upperarm|shoulder|elbow|mocap|"
    r"rethink mount|manipulator|(?:left|right) l ?\d+|links? \d+|eef|end effector|"
    # What Sawyer is made of; alone these words are a robot's, beside others an object's.
    r"(?<=^)(?:head|screen|rail|torso|pedestal|pedestal feet|controller box|link)(?=$)"
)
# Tried in this order: a "table_goal" is a goal, "panda_table" a surface, "robot_base" a robot.
_WORDS: Final[tuple[tuple[Role, str], ...]] = (
    ("goal", _GOAL),
    ("surface", _SURFACE),
    ("robot", _ROBOT),
    ("background", _BACKGROUND),
)
_PATTERNS: Final = tuple(
    (role, re.compile(rf"(?:^|(?<= ))(?:{words})(?= |$)")) for role, words in _WORDS
)
_QUALIFIERS: Final = frozenset(
    "back base bottom collision front geom group kitchen lab left link main metal office panda "
    "right robot side surface top visual wooden work workspace world".split()
)
"""Words that may stand beside a surface's, as numbers may; with others it is a "table lamp"."""
_SUFFIXES: Final = re.compile(r"(?<=[a-z]{3})(?:links?|geoms?|bod(?:y|ies)|visual|collision)$")
_SHARE_OF_SURFACE: Final = 0.12
_SHARE_OF_BORDER: Final = 0.08
_FLATNESS: Final = 0.01
_DENSE: Final = 1 << 16
_SAMPLES_OF_PLANE: Final = 500


def words_of(name: str) -> str:
    """Split a name into lower-case words: ``PandaGripper0_right`` is ``panda gripper 0 right``.

    Args:
        name: As a simulator spells it: underscores, colons, camel case, glued suffixes.

    Returns:
        The words, joined by single spaces.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    spaced = re.sub(r"[^A-Za-z0-9]+", " ", spaced).lower()
    # "panda0" and "bin1" are numbered; "l0" and "ur5" are names of their own.
    spaced = re.sub(r"(?<=[a-z]{3})(?=\d)", " ", spaced)
    return " ".join(_SUFFIXES.sub("", word) or word for word in spaced.split())


@functools.lru_cache(maxsize=4096)
def known_role(name: str) -> Role | None:
    """Look a name up in the built-in table; None where it says nothing.

    Example:
        >>> [known_role(n) for n in ("tablelink", "PandaGripper0_right", "right_l0", "cube")]
        ['surface', 'robot', 'robot', None]
    """
    words = words_of(name)
    for role, pattern in _PATTERNS:
        if pattern.search(words) is None:
            continue
        rest = pattern.sub("", words).split()
        if role in ("goal", "robot") or all(w.isdecimal() or w in _QUALIFIERS for w in rest):
            return role
    return None


def role_of(name: str, roles: Mapping[str, Role] | None = None) -> Role:
    """Say which role a name has; a name that says nothing is an object's.

    Args:
        name: As a simulator spells it.
        roles: The user's own patterns, tried first, in order. Shell-style wildcards; case does
            not matter.

    Raises:
        ConfigError: If a role is none of :data:`ROLES`.
    """
    return _own_role(name, roles) or known_role(name) or "object"


def is_surface(name: str) -> bool:
    """Return whether a name is of a part of the lab rather than of the task."""
    return known_role(name) in ("surface", "background")


def is_see_through(name: str) -> bool:
    """Return whether a goal's name is of one of robosuite's ghosts: ``VisualMilk``."""
    return known_role(name) == "goal" and words_of(name).startswith("visual ")


def check_roles(roles: Mapping[str, Role]) -> None:
    """Raise unless every value is a role.

    Args:
        roles: Patterns of names, and their roles.

    Raises:
        ConfigError: Naming the pattern and the roles there are.
    """
    for pattern, role in roles.items():
        if role not in ROLES:
            raise ConfigError(
                f"roles: expected one of {', '.join(ROLES)} for {pattern!r}, got {role!r}."
            )


def roles_in(
    segmentation: NDArray[np.int32],
    names: Mapping[int, str],
    roles: Mapping[str, Role] | None = None,
    depth: NDArray[np.float32] | None = None,
) -> dict[int, Role]:
    """Give every id of a segmentation its role.

    An id whose name says nothing is a surface if it covers much of the picture or runs along much
    of its border, and is flat where depth is known: an object of the task is rarely both. An id
    without any name is background where it is 0 or less, as simulators number "nothing here".

    Args:
        segmentation: int, (height, width): instance ids.
        names: What each id is called; may be empty.
        roles: The user's own patterns, see :func:`role_of`.
        depth: float32, (height, width): metres along the optical axis.

    Returns:
        A role for each id that is visible.
    """
    found, counts = visible_ids(segmentation)
    border = np.concatenate(
        [segmentation[0], segmentation[-1], segmentation[:, 0], segmentation[:, -1]]
    )
    result: dict[int, Role] = {}
    for number, count in zip(found.tolist(), counts.tolist(), strict=True):
        name = names.get(number)
        named = None if name is None else _own_role(name, roles) or known_role(name)
        if named is not None:
            result[number] = named
        elif name is None and number <= 0:
            result[number] = "background"
        else:
            large = count > _SHARE_OF_SURFACE * segmentation.size
            cut_off = np.count_nonzero(border == number) > _SHARE_OF_BORDER * border.size
            flat = (large or cut_off) and (depth is None or _flat(segmentation == number, depth))
            result[number] = "surface" if flat else "object"
    return result


def visible_ids(segmentation: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids that a segmentation shows, in rising order, and the number of pixels of each.

    Args:
        segmentation: int, (height, width): instance ids.
    """
    lowest, highest = int(segmentation.min()), int(segmentation.max())
    if highest - lowest > _DENSE:
        found, counts = np.unique(segmentation, return_counts=True)
        return found.astype(np.int64), counts.astype(np.int64)
    # Counting takes a tenth of the time of sorting, and ids are small almost everywhere.
    counts = np.bincount(segmentation.ravel().astype(np.int64) - lowest)
    present = np.flatnonzero(counts)
    return present + lowest, counts[present].astype(np.int64)


def _flat(mask: NDArray[np.bool_], depth: NDArray[np.float32]) -> bool:
    """Return whether a region is one plane: then 1 / depth is an affine function of the pixel."""
    rows, columns = np.nonzero(mask & np.isfinite(depth) & (depth > 0))
    step = max(1, len(rows) // _SAMPLES_OF_PLANE)
    rows, columns = rows[::step], columns[::step]
    if len(rows) < 3:
        return False
    inverse = 1.0 / depth[rows, columns].astype(np.float64)
    plane = np.stack([rows, columns, np.ones_like(rows)], axis=1).astype(np.float64)
    fitted = plane @ np.linalg.lstsq(plane, inverse, rcond=None)[0]
    return bool(np.median(np.abs(fitted - inverse)) < _FLATNESS * np.median(inverse))


def _own_role(name: str, roles: Mapping[str, Role] | None) -> Role | None:
    if not roles:
        return None
    lowered = name.lower()
    matches = (role for p, role in roles.items() if fnmatch.fnmatchcase(lowered, p.lower()))
    return next(matches, None)
