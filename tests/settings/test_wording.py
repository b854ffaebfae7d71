from __future__ import annotations

from spie_robo.settings.wording import counted


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
