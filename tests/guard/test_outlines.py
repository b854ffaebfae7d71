"""Tests of what is read off a frame before any edit is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.outlines import LONGEST_SIDE, scene_of
from spie_robo.types import Frame, Geometry

FrameOf = Callable[[LabelledImage], Frame]


def test_objects_goal_and_robot_are_followed(scene: LabelledImage, frame_of: FrameOf) -> None:
    followed = [(one.name, one.role) for one in scene_of(frame_of(scene)).silhouettes]
    assert sorted(followed) == [
        ("cube", "object"), ("cube", "object"), ("goal", "goal"), ("robot", "robot"),
    ]  # fmt: skip


def test_normals_point_out_of_a_silhouette(scene: LabelledImage, frame_of: FrameOf) -> None:
    found = scene_of(frame_of(scene))
    cube = next(i for i, s in enumerate(found.silhouettes) if s.centre == (37.5, 87.5))
    points = found.owner[found.piece] == cube
    outward = found.points[points] - np.array([37.5, 87.5])
    assert (np.sum(outward * found.normals[points], axis=1) > 5).all()
    assert np.abs(np.abs(outward).max(axis=1) - 8).max() < 0.6  # a square of 16 pixels


def test_a_rim_against_something_nearer_is_not_the_objects(scene: LabelledImage) -> None:
    classes, depth = scene.classes.copy(), scene.depth.copy()
    classes[80:96, 20:34], depth[80:96, 20:34] = 2, 0.5  # the robot covers its left quarter
    names = {1: "table", 2: "panda", 3: "cube"}
    frame = Frame(scene.rgb, "front", Geometry(depth, classes.astype(np.int32), names))
    found = scene_of(frame)
    cube = next(i for i, s in enumerate(found.silhouettes) if 30 < s.centre[0] < 46)
    points = found.points[found.owner[found.piece] == cube]
    # Its left rim, 16 points at column 33.5, is the robot's; two corners are left.
    assert np.count_nonzero(points[:, 0] < 33.9) <= 2 and points[:, 0].max() > 45


def test_without_truth_what_stands_out_is_followed(scene: LabelledImage) -> None:
    centres = [one.centre for one in scene_of(Frame(scene.rgb)).silhouettes]
    for expected in ((37.5, 87.5), (93.5, 95.5), (99.5, 68.5)):
        assert min(np.hypot(x - expected[0], y - expected[1]) for x, y in centres) < 1


def test_a_user_says_what_a_surface_is(scene: LabelledImage, frame_of: FrameOf) -> None:
    frame = frame_of(scene)
    assert frame.geometry is not None
    renamed = replace(frame, geometry=replace(frame.geometry, names={3: "slab"}))
    names = [one.name for one in scene_of(renamed, {"slab": "surface"}).silhouettes]
    assert "slab" not in names


@pytest.mark.parametrize("size", [128, 256, 512])
def test_large_frames_are_judged_on_a_smaller_grid(
    make_scene: Callable[..., LabelledImage], frame_of: FrameOf, size: int
) -> None:
    found = scene_of(frame_of(make_scene(size)))
    assert max(found.raw.shape[:2]) == min(size, LONGEST_SIDE)
    assert found.scale == min(1, LONGEST_SIDE / size)
    assert found.pixels == min(size, LONGEST_SIDE) / 128


def test_depth_that_is_unknown_everywhere_is_no_rim(scene: LabelledImage) -> None:
    depth = np.full((128, 128), np.nan, np.float32)
    found = scene_of(Frame(np.zeros_like(scene.rgb), "front", Geometry(depth)))
    assert not found.silhouettes and not len(found.points)
    assert (found.surfaces[10:-10, 10:-10] == 1).all()


def test_a_textureless_frame_has_nothing_to_follow() -> None:
    found = scene_of(Frame(np.full((96, 96, 3), 90, np.uint8)))
    assert not found.silhouettes and not len(found.owner)
