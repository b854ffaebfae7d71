from __future__ import annotations

import numpy as np
import pytest

from spie_robo.guard.classes import GeometryClass, class_map, class_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("floor", GeometryClass.BACKGROUND),
        ("wall_2", GeometryClass.BACKGROUND),
        ("Table", GeometryClass.TABLE),
        ("panda", GeometryClass.ROBOT),
        ("panda/link7", GeometryClass.ROBOT),
        ("panda_leftfinger", GeometryClass.ROBOT),
        ("goal", GeometryClass.GOAL),
        ("target0", GeometryClass.GOAL),
        ("cube", GeometryClass.OBJECT),
        ("distractor_3", GeometryClass.OBJECT),
        ("warm mug", GeometryClass.OBJECT),
    ],
)
def test_names_have_classes(name: str, expected: GeometryClass) -> None:
    assert class_of(name) is expected


def test_an_id_without_a_name_is_an_object_unless_it_means_nothing() -> None:
    segmentation = np.array([[-1, 0, 1, 7]], np.int32)
    assert class_map(segmentation, {1: "table"}).tolist() == [[0, 0, 1, 3]]
