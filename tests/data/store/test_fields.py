from __future__ import annotations

from spie_robo.data.store.fields import DEVIATIONS
from spie_robo.guard import DEVIATION_NAMES


def test_everything_that_the_guard_measures_has_a_column() -> None:
    assert DEVIATIONS == DEVIATION_NAMES
