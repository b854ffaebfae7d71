"""A guarded editor says so when most of its edits are rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.guard import GeometryGuard
from spie_robo.types import EditResult, Frame


class Mirror:
    """Turns every frame left to right."""

    id = "mirror"

    def edit(self, frames: Sequence[Frame], *_: object, **__: object) -> list[EditResult]:
        return [EditResult(f.rgb[:, ::-1].copy(), 0, "", "mirror", 1) for f in frames]


def _frames(count: int) -> list[Frame]:
    rgb = np.full((64, 64, 3), 150, np.uint8)
    rgb[30:44, 8:22] = (200, 30, 30)
    return [Frame(rgb)] * count


def test_a_run_of_rejections_warns_once_whatever_the_batches() -> None:
    guarded = GuardedEditor(Mirror(), GeometryGuard(), retries=0)
    with pytest.warns(RuntimeWarning, match="rejected 52 of the last 52 edits") as warned:
        for _ in range(30):
            guarded.edit(_frames(4), [0] * 4)
    assert len([w for w in warned if "rejected" in str(w.message)]) == 1
    assert guarded.monitor.rejected == 120


def test_a_copy_with_another_guard_goes_on_counting() -> None:
    guarded = GuardedEditor(Mirror(), GeometryGuard(), retries=0)
    guarded.edit(_frames(2), [0, 0])
    replace(guarded, guard=GeometryGuard()).edit(_frames(2), [0, 0])
    assert guarded.monitor.judged == 4
    assert guarded == GuardedEditor(guarded.editor, guarded.guard, retries=0)
