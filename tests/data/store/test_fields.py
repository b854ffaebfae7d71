from __future__ import annotations

from spie_robo.data.store.fields import DEVIATIONS, deviations_of, realism_keys, verdict_keys
from spie_robo.guard import DEVIATION_NAMES


def test_everything_that_the_guard_measures_has_a_column() -> None:
    assert DEVIATIONS == DEVIATION_NAMES


def test_what_was_measured_follows_from_the_keys_of_a_store() -> None:
    keys = ["front_rgb", "realism_front_edited", "realism_front_mask_iou", "action"]
    assert deviations_of(keys, "front") == {"mask_iou": "realism_front_mask_iou"}


def test_a_camera_whose_name_begins_like_anothers_keeps_its_own_fields() -> None:
    keys = ["front_rgb", "front_top_rgb", *realism_keys("front"), *realism_keys("front_top")]
    for camera in ("front", "front_top"):
        assert tuple(verdict_keys(keys, camera).values()) == realism_keys(camera)
        assert tuple(deviations_of(keys, camera)) == DEVIATIONS
