from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.guard import DEVIATION_NAMES, GeometryGuard, GuardBudget, Judge, distortions
from spie_robo.guard.distortions import LabelledImage
from spie_robo.types import EditResult, Frame, Geometry, Guard

FrameOf = Callable[[LabelledImage], Frame]
Mask = NDArray[np.bool_]
BUDGET = GuardBudget(0.2, 0.8, 0.7, 2.0, 10.0, 1.0, 30.0)


def edit_of(rgb: NDArray[np.uint8]) -> EditResult:
    return EditResult(rgb, 0, "", "test", 1)


@pytest.fixture
def guard(palette_judge: Judge) -> GeometryGuard:
    return GeometryGuard(BUDGET, protect=("cube",), estimator=palette_judge)


def test_an_unchanged_frame_is_accepted(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    assert isinstance(guard, Guard)
    verdict = guard.judge(frame_of(scene), edit_of(scene.rgb))
    assert verdict.accepted and verdict.source == "simulator"
    assert tuple(d.name for d in verdict.deviations) == DEVIATION_NAMES
    exact = [verdict.value(name) for name in ("depth_error", "mask_iou", "boundary_f")]
    assert exact == pytest.approx([0, 1, 1], abs=1e-6)
    assert verdict.value("inserted_px") == 0
    assert verdict.value("displacement_px") < 1 < verdict.value("edge_support")


def test_a_shift_is_rejected_and_the_reason_names_it(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf, cube: Mask
) -> None:
    moved = distortions.shift(scene, cube, 3, np.random.default_rng(0))
    verdict = guard.judge(frame_of(scene), edit_of(moved.rgb))
    assert not verdict.accepted
    assert verdict.value("displacement_px") == pytest.approx(3, abs=1)
    assert "displacement_px" in verdict.reason and "at most 2" in verdict.reason
    assert "displacement_px is 2.83 at cube (38, 88), at most 2 is allowed" in verdict.reason


def test_what_was_inserted_has_a_place_and_no_name(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    painted = scene.rgb.copy()
    painted[108:124, 4:20] = painted[88, 38]
    verdict = guard.judge(frame_of(scene), edit_of(painted))
    assert re.search(r"inserted_px is 256 at \(1[12], 11[56]\), at most 30", verdict.reason)


def test_places_are_in_pixels_of_the_frame(guard: GeometryGuard, scene: LabelledImage) -> None:
    large = np.repeat(np.repeat(scene.rgb, 2, axis=0), 3, axis=1)
    emptied = large.copy()
    emptied[160:192, 90:138] = large[250, 250]
    verdict = guard.judge(Frame(large), edit_of(emptied))
    assert re.search(r"mask_iou is 0 at \(11[0-9], 17[0-9]\)", verdict.reason)


@pytest.mark.parametrize("kind", ["removed", "inserted", "scaled", "warped"])
def test_other_changes_are_rejected(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf, cube: Mask, kind: str
) -> None:
    generator = np.random.default_rng(0)
    changed = {
        "removed": lambda: distortions.remove(scene, cube),
        "inserted": lambda: distortions.insert(scene, scene, cube, generator),
        "scaled": lambda: distortions.scale(scene, cube, 1.25),
        "warped": lambda: distortions.warp(scene, 8, generator),
    }[kind]()
    assert not guard.judge(frame_of(scene), edit_of(changed.rgb)).accepted


def test_without_geometry_the_raw_frame_is_read(
    guard: GeometryGuard, scene: LabelledImage, cube: Mask
) -> None:
    frame = Frame(scene.rgb)
    same, moved = (
        guard.judge(frame, edit_of(image.rgb))
        for image in (scene, distortions.shift(scene, cube, 6, np.random.default_rng(0)))
    )
    assert same.accepted and same.source == "estimate"
    assert not moved.accepted
    assert math.isnan(same.value("chroma_drift"))


def test_the_verdict_says_whose_geometry_it_was(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    frame = frame_of(scene)
    assert frame.geometry is not None
    recorded = replace(frame, geometry=replace(frame.geometry, origin="recorded"))
    verdicts = [guard.judge(each, edit_of(scene.rgb)) for each in (frame, recorded)]
    assert [verdict.source for verdict in verdicts] == ["simulator", "recorded"]


def test_mistakes_on_the_raw_frame_are_not_blamed_on_the_edit(
    blind_judge: Judge, scene: LabelledImage, frame_of: FrameOf
) -> None:
    verdict = GeometryGuard(BUDGET, estimator=blind_judge).judge(
        frame_of(scene), edit_of(scene.rgb)
    )
    assert verdict.accepted


def test_a_protected_object_that_no_camera_knows_is_an_error(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    frame, edit = frame_of(scene), edit_of(scene.rgb)
    lost = GeometryGuard(BUDGET, protect=("cub",), estimator=guard.estimator)
    with pytest.raises(FrameError, match=r"no object is called 'cub' in .*cube"):
        lost.judge(frame, edit)
    numbered = GeometryGuard(BUDGET, protect=(np.int64(3),), estimator=guard.estimator)
    assert json.dumps(numbered.description["protect"]) == "[3]"


def test_a_protected_object_must_keep_its_colour(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    recoloured = scene.rgb.copy()
    recoloured[scene.classes == 3] = (200, 60, 90)
    verdict = guard.judge(frame_of(scene), edit_of(recoloured))
    assert verdict.value("chroma_drift") > 10
    assert [d.name for d in verdict.deviations if d.exceeded] == ["chroma_drift"]
    by_id = GeometryGuard(BUDGET, protect=(3,), estimator=guard.estimator)
    assert not by_id.judge(frame_of(scene), edit_of(recoloured)).accepted
    free = GeometryGuard(BUDGET, estimator=guard.estimator)
    assert free.judge(frame_of(scene), edit_of(recoloured)).accepted


def test_a_batch_is_judged_as_its_frames_one_by_one(
    guard: GeometryGuard, make_scene: Callable[..., LabelledImage], frame_of: FrameOf, cube: Mask
) -> None:
    scenes = [make_scene(), make_scene(256), make_scene(goal=False)]
    frames = [frame_of(scene) for scene in scenes]
    edits = [
        edit_of(scenes[0].rgb),
        edit_of(np.roll(scenes[1].rgb, 10, axis=1)),
        edit_of(distortions.remove(scenes[2], cube).rgb),
    ]
    together = guard.judge_batch(frames, edits)
    assert together[1:] == [guard.judge(f, e) for f, e in zip(frames[1:], edits[1:], strict=True)]
    assert [verdict.accepted for verdict in together] == [True, False, False]


def test_depth_alone_or_segmentation_alone_is_enough(
    guard: GeometryGuard, scene: LabelledImage
) -> None:
    depth = np.where(scene.depth > 1.5, np.inf, scene.depth).astype(np.float32)
    for geometry in (Geometry(depth=depth), Geometry(segmentation=scene.classes.astype(np.int32))):
        verdict = guard.judge(Frame(scene.rgb, "front", geometry), edit_of(scene.rgb))
        assert verdict.source == "simulator"
        assert not math.isnan(verdict.value("depth_error"))
        assert not math.isnan(verdict.value("mask_iou"))


def test_an_edit_of_another_size_is_refused(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    with pytest.raises(FrameError, match="Resize the edit"):
        guard.judge(frame_of(scene), edit_of(scene.rgb[:64]))
    with pytest.raises(FrameError, match="one edit a frame"):
        guard.judge_batch([frame_of(scene)], [])
