from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from spie_robo.errors import ConfigError
from spie_robo.guard import DEVIATION_NAMES, GuardBudget
from spie_robo.guard.budget import calibrated_limits
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


def test_the_budget_defaults_to_the_calibrated_limits() -> None:
    budget = GuardBudget()
    assert {n: getattr(budget, n) for n in DEVIATION_NAMES} == calibrated_limits()
    assert GuardBudget(mask_iou=0.1).displacement_px == budget.displacement_px


@pytest.mark.parametrize(
    "limit",
    [{"mask_iou": 1.5}, {"depth_error": -1.0}, {"depth_error": math.inf}, {"inserted_px": "30"}],
)
def test_impossible_limits_are_refused(limit: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limit))):
        GuardBudget(**limit)


def test_names_and_budget_need_no_torch() -> None:
    code = (
        "import sys, spie_robo.guard; spie_robo.guard.GuardBudget(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
