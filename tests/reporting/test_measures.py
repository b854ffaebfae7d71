from __future__ import annotations

from spie_robo.reporting.measures import in_order, known_measure


def test_limits_are_words() -> None:
    assert known_measure("mask_iou").limit(0.6) == "at least 60 %"
    assert known_measure("moved_px").limit(1.5) == "at most 1.5 px of 128"
    assert known_measure("depth_error").limit(None) == "not recorded"


def test_names_that_are_not_known_are_shown_as_the_store_has_them() -> None:
    found = known_measure("tilt_of_table_px")
    assert (found.label, found.limit(3)) == ("Tilt of table", "at most 3 px")
    assert in_order({"tilt", "mask_iou", "outline"}) == ("outline", "mask_iou", "tilt")
