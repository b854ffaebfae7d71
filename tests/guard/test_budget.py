from __future__ import annotations

import math
import subprocess
import sys

import pytest

from spie_robo.errors import ConfigError
from spie_robo.guard import DEVIATION_NAMES, GuardBudget
from spie_robo.guard.budget import calibrated_limits


def test_the_budget_defaults_to_the_calibrated_limits() -> None:
    budget = GuardBudget()
    assert {n: getattr(budget, n) for n in DEVIATION_NAMES} == calibrated_limits()
    assert GuardBudget(outline=0.1).moved_px == budget.moved_px


@pytest.mark.parametrize(
    "limit",
    [{"outline": 1.5}, {"moved_px": -1.0}, {"warped_px": math.inf}, {"inserted": "30"},
     {"swapped": -1.5}],
)  # fmt: skip
def test_impossible_limits_are_refused(limit: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limit))):
        GuardBudget(**limit)


def test_a_shipped_limit_allows_less_than_the_harm_it_is_for() -> None:
    """2 % of the width is 2.56 px, and 3 % is 3.84."""
    limits = calibrated_limits()
    assert limits["moved_px"] < 2 and limits["warped_px"] < 2 and limits["outline"] > 0.5


def test_names_and_budget_need_no_torch() -> None:
    code = (
        "import sys, spie_robo.guard; spie_robo.guard.GuardBudget(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
