"""Tests of roles, by name and by shape."""

from __future__ import annotations

import numpy as np
import pytest

from spie_robo.errors import ConfigError
from spie_robo.guard.roles import Role, check_roles, is_see_through, role_of, roles_in, visible_ids


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("tablelink", "surface"),
        ("RetainingWall", "surface"),
        ("bin1", "surface"),
        ("table0", "surface"),
        ("kitchen_counter", "surface"),
        ("wall-left_2", "background"),
        ("floor0", "background"),
        ("plane", "background"),
        ("right_l0", "robot"),
        ("PandaGripper0_right", "robot"),
        ("RethinkMount0", "robot"),
        ("Panda0", "robot"),
        ("robot0:torso_lift_link", "robot"),
        ("vx300s_left/10_left_gripper_finger", "robot"),
        ("rightclaw_it", "robot"),
        ("pedestal_feet", "robot"),
        ("head", "robot"),
        ("hammer_head", "object"),
        ("table_goal", "goal"),
        ("target1", "goal"),
        ("VisualMilk", "goal"),
        ("table_lamp", "object"),
        ("drawer_link", "object"),
        ("objGeom", "object"),
        ("red_box", "object"),
        ("Milk", "object"),
    ],
)
def test_names_of_real_simulators_have_roles(name: str, role: Role) -> None:
    assert role_of(name) == role


def test_a_users_patterns_come_first_and_in_order() -> None:
    roles: dict[str, Role] = {"Cube_*": "goal", "cube*": "surface"}
    assert role_of("cube_1", roles) == "goal"
    assert role_of("CUBE", roles) == "surface"
    assert role_of("panda", {"pan*": "object"}) == "object"


def test_an_unknown_role_is_refused_with_the_roles_there_are() -> None:
    with pytest.raises(ConfigError, match=r"background, surface, .*'tablelink', got 'furniture'"):
        check_roles({"tablelink": "furniture"})  # type: ignore[dict-item]


def test_only_robosuites_ghosts_are_see_through() -> None:
    assert is_see_through("VisualMilk")
    assert not any(map(is_see_through, ("wall_visual", "goal", "visual")))


def _segmentation() -> np.ndarray:
    """A plane below, unknown; a small thing on it; nothing above."""
    ids = np.zeros((64, 64), np.int32)
    ids[20:] = 7
    ids[40:46, 30:36] = 9
    return ids


def test_without_names_what_is_large_and_flat_is_a_surface() -> None:
    rows, _ = np.mgrid[:64, :64].astype(np.float32)
    depth = 1.0 / (0.2 + 0.01 * rows)
    roles = roles_in(_segmentation(), {}, None, depth.astype(np.float32))
    assert roles == {0: "background", 7: "surface", 9: "object"}


def test_what_is_large_and_not_flat_is_an_object() -> None:
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    ball = 1.0 - 0.5 * np.sqrt(np.clip(1 - (rows / 32 - 1) ** 2 - (columns / 32 - 1) ** 2, 0, 1))
    assert roles_in(_segmentation(), {7: "ball"}, None, ball)[7] == "object"


def test_ids_far_apart_are_counted_as_well() -> None:
    ids = np.array([[5, 5, 2**30]], np.int32)
    found, counts = visible_ids(ids)
    assert found.tolist() == [5, 2**30] and counts.tolist() == [2, 1]
