"""Tests of the monitor that says when most edits are rejected."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from spie_robo.guard.acceptance import ADVICE, AcceptanceMonitor
from spie_robo.guard.budget import DEVIATION_NAMES
from spie_robo.types import Deviation, GuardedEdit, GuardVerdict


def _edit(accepted: bool, deviation: str = "outline") -> GuardedEdit:
    value = 1.0 if accepted else 0.2
    measured = (
        Deviation("moved_px", math.nan, 1.0),
        Deviation(deviation, value, 0.7, at_most=False),
    )
    verdict = GuardVerdict(accepted, measured, "Rejected: it is gone.", "simulator")
    return GuardedEdit(np.zeros((16, 16, 3), np.uint8), accepted, verdict, 0, 1)


def test_half_of_a_window_is_no_reason_to_warn() -> None:
    monitor = AcceptanceMonitor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.watch([_edit(i % 2 == 0) for i in range(300)])


def test_more_than_half_warns_once_with_deviation_reason_and_advice() -> None:
    monitor = AcceptanceMonitor()
    with pytest.warns(RuntimeWarning) as warned:
        for i in range(400):
            monitor.watch([_edit(i < 60)])
    assert len(warned) == 1
    said = str(warned[0].message)
    assert "rejected 51 of the last 100" in said
    assert "51 for outline" in said and ADVICE["outline"] in said and "it is gone" in said


def test_rejections_long_ago_are_forgotten_by_the_warning_and_kept_by_the_summary() -> None:
    monitor = AcceptanceMonitor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.watch([_edit(False)] * 40)
        monitor.watch([_edit(True)] * 100)
        monitor.watch([_edit(False, "swapped")] * 50)
    assert monitor.judged == 190 and monitor.rejected == 90
    assert monitor.summary == "guard: 100 of 190 edits accepted; 50 rejected for swapped."


def test_the_summary_of_a_short_run_says_what_to_try() -> None:
    monitor = AcceptanceMonitor()
    monitor.watch([_edit(False)] * 6)
    assert monitor.summary.startswith("guard: 0 of 6 edits accepted. 6 for outline: ")
    assert ADVICE["outline"] in monitor.summary


def test_edits_that_nobody_judged_do_not_count() -> None:
    monitor = AcceptanceMonitor()
    unjudged = GuardedEdit(np.zeros((16, 16, 3), np.uint8), True, None, 0, 1)
    monitor.watch([unjudged] * 200)
    assert monitor.judged == 0 and monitor.summary == ""


def test_there_is_advice_for_every_deviation() -> None:
    assert set(ADVICE) == set(DEVIATION_NAMES)
