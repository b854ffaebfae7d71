"""The few classes that the geometry judge tells apart, and which instance names belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.guard.roles import Role, role_of


@final
class GeometryClass(IntEnum):
    """Classes of what a pixel shows; the value is the channel of the judge's output."""

    BACKGROUND = 0
    TABLE = 1
    ROBOT = 2
    OBJECT = 3
    GOAL = 4


_CLASS_OF_ROLE: Final[Mapping[Role, GeometryClass]] = {
    "background": GeometryClass.BACKGROUND,
    "surface": GeometryClass.TABLE,
    "robot": GeometryClass.ROBOT,
    "object": GeometryClass.OBJECT,
    "goal": GeometryClass.GOAL,
}


def class_of(name: str) -> GeometryClass:
    """Give an instance name its class; a name that says nothing is an object.

    Example:
        >>> class_of("panda_link7").name, class_of("wall").name, class_of("distractor_3").name
        ('ROBOT', 'BACKGROUND', 'OBJECT')
    """
    return _CLASS_OF_ROLE[role_of(name)]


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
