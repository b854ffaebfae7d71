"""The few classes that the geometry judge tells apart, and which instance names belong to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
class GeometryClass(IntEnum):
    """What a pixel shows; the value is the channel of the judge's output."""

    BACKGROUND = 0
    TABLE = 1
    ROBOT = 2
    OBJECT = 3
    GOAL = 4


# Tried in this order: a "table_goal" is a goal, a "robot_table" a table.
_WORDS: tuple[tuple[GeometryClass, frozenset[str]], ...] = (
    (GeometryClass.GOAL, frozenset({"goal", "target", "marker"})),
    (GeometryClass.TABLE, frozenset({"table", "desk", "counter", "tabletop", "bench"})),
    (
        GeometryClass.ROBOT,
        frozenset(
            "robot panda franka arm gripper hand finger leftfinger rightfinger link ur5 ur10 "
            "kuka iiwa sawyer xarm jaco baxter".split()
        ),
    ),
    (
        GeometryClass.BACKGROUND,
        frozenset(
            "background floor ground plane wall ceiling sky skybox world room backdrop "
            "void none terrain groundplane".split()
        ),
    ),
)


def class_of(name: str) -> GeometryClass:
    """The class of an instance name; a name that says nothing is an object.

    Example:
        >>> class_of("panda_link7").name, class_of("wall").name, class_of("distractor_3").name
        ('ROBOT', 'BACKGROUND', 'OBJECT')
    """
    words = {word.rstrip("0123456789") or word for word in re.split(r"[^a-z0-9]+", name.lower())}
    words |= set(re.split(r"[^a-z0-9]+", name.lower()))
    for geometry_class, known in _WORDS:
        if words & known:
            return geometry_class
    return GeometryClass.OBJECT


def class_map(segmentation: NDArray[np.int32], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Turn instance ids into class ids.

    Args:
        segmentation: int, (height, width): instance ids.
        names: What each id is called. An id without a name is an object, or background where it
            is 0 or negative, as simulators number "nothing here".

    Returns:
        uint8, (height, width): values of :class:`GeometryClass`.
    """
    classes = np.empty(segmentation.shape, np.uint8)
    for instance in np.unique(segmentation).tolist():
        if instance in names:
            found = class_of(names[instance])
        else:
            found = GeometryClass.OBJECT if instance > 0 else GeometryClass.BACKGROUND
        classes[segmentation == instance] = found
    return classes


def merge_movable(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Count goals as objects: from above a disc on the table and a ball look alike.

    Args:
        classes: uint8, any shape: values of :class:`GeometryClass`.
    """
    return np.where(classes == GeometryClass.GOAL, np.uint8(GeometryClass.OBJECT), classes)
