"""Tests of verdicts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from spie_robo.errors import ConfigError, FrameError
from spie_robo.guard import DEVIATION_NAMES, GeometryGuard, distortions
from spie_robo.guard.distortions import LabelledImage
from spie_robo.types import EditResult, Frame, Geometry, Guard, GuardVerdict

FrameOf = Callable[[LabelledImage], Frame]
Mask = NDArray[np.bool_]


def edit_of(rgb: NDArray[np.uint8]) -> EditResult:
    return EditResult(rgb, 0, "", "test", 1)


def broken(verdict: GuardVerdict) -> list[str]:
    return [deviation.name for deviation in verdict.deviations if deviation.exceeded]


@pytest.fixture
def guard() -> GeometryGuard:
    return GeometryGuard(protect=("cube",))


def test_an_unchanged_frame_is_accepted(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    assert isinstance(guard, Guard)
    verdict = guard.judge(frame_of(scene), edit_of(scene.rgb))
    assert verdict.accepted and verdict.source == "simulator"
    assert tuple(d.name for d in verdict.deviations) == DEVIATION_NAMES
    zeros = [verdict.value(n) for n in ("moved_px", "resized_px", "warped_px", "inserted")]
    assert zeros == [0, 0, 0, 0] and verdict.value("outline") == pytest.approx(1)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("factor", [0.6, 0.85, 1.15, 1.4])
def test_another_brightness_is_accepted(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf, factor: float, truth: bool
) -> None:
    frame = frame_of(scene) if truth else Frame(scene.rgb)
    bright = np.clip(scene.rgb * factor, 0, 255).astype(np.uint8)
    assert GeometryGuard().judge(frame, edit_of(bright)).accepted


def test_a_shift_is_rejected_and_the_reason_names_it(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf, cube: Mask
) -> None:
    moved = distortions.shift(scene, cube, 3, np.random.default_rng(0))
    verdict = guard.judge(frame_of(scene), edit_of(moved.rgb))
    assert not verdict.accepted and "moved_px" in broken(verdict)
    assert verdict.value("moved_px") == pytest.approx(3, abs=0.7)
    assert re.search(
        r"cube moved [23]\.\d px at \(3[78], 8[78]\), at most \S+ px is allowed", verdict.reason
    )


def test_what_was_inserted_has_a_place(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    painted = scene.rgb.copy()
    painted[108:124, 4:20] = painted[88, 38]
    verdict = guard.judge(frame_of(scene), edit_of(painted))
    assert set(broken(verdict)) == {"inserted", "added"}
    place = re.search(r"something stands out at \((\d+), (\d+)\)", verdict.reason)
    assert place is not None
    assert 0 <= int(place[1]) <= 23 and 104 <= int(place[2]) <= 127


@pytest.mark.parametrize("grow", [(2, 2), (2, 3)])
def test_places_are_in_pixels_of_the_frame(
    guard: GeometryGuard, scene: LabelledImage, grow: tuple[int, int]
) -> None:
    large = np.repeat(np.repeat(scene.rgb, grow[0], axis=0), grow[1], axis=1)
    emptied = large.copy()
    emptied[80 * grow[0] : 96 * grow[0], 30 * grow[1] : 46 * grow[1]] = large[250, 250]
    verdict = guard.judge(Frame(large), edit_of(emptied))
    place = re.search(r"0% of the outline of an object at \((\d+), (\d+)\)", verdict.reason)
    assert place is not None
    assert int(place[1]) == pytest.approx(38 * grow[1], abs=4)
    assert int(place[2]) == pytest.approx(88 * grow[0], abs=4)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("kind", ["removed", "inserted", "scaled", "warped"])
def test_other_changes_are_rejected(
    guard: GeometryGuard,
    scene: LabelledImage,
    frame_of: FrameOf,
    cube: Mask,
    kind: str,
    truth: bool,
) -> None:
    generator = np.random.default_rng(0)
    changed = {
        "removed": lambda: distortions.remove(scene, cube),
        "inserted": lambda: distortions.insert(scene, scene, cube, generator),
        "scaled": lambda: distortions.scale(scene, cube, 1.25),
        "warped": lambda: distortions.warp(scene, 4, generator),
    }[kind]()
    frame = frame_of(scene) if truth else Frame(scene.rgb)
    assert not guard.judge(frame, edit_of(changed.rgb)).accepted


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


def test_a_frame_that_shows_nothing_is_accepted_with_nothing_measured() -> None:
    blank = np.full((64, 64, 3), 90, np.uint8)
    verdict = GeometryGuard().judge(Frame(blank), edit_of(blank))
    assert verdict.accepted
    for name in ("outline", "moved_px", "resized_px", "swapped", "chroma_drift"):
        assert math.isnan(verdict.value(name))


def test_a_protected_object_that_no_camera_knows_is_an_error(
    scene: LabelledImage, frame_of: FrameOf
) -> None:
    frame, edit = frame_of(scene), edit_of(scene.rgb)
    with pytest.raises(FrameError, match=r"no object is called 'cub' in .*cube"):
        GeometryGuard(protect=("cub",)).judge(frame, edit)
    numbered = GeometryGuard(protect=(np.int64(3),))
    assert json.dumps(numbered.description["protect"]) == "[3]"


def test_a_protected_object_must_keep_its_colour(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    recoloured = scene.rgb.copy()
    recoloured[scene.classes == 3] = (200, 60, 90)
    verdict = guard.judge(frame_of(scene), edit_of(recoloured))
    assert verdict.value("chroma_drift") > 10
    strict = replace(guard, budget=replace(guard.budget, chroma_drift=10.0))
    rejected = strict.judge(frame_of(scene), edit_of(recoloured))
    assert broken(rejected) == ["chroma_drift"] and "protected colours drift" in rejected.reason
    by_id = replace(strict, protect=(3,))
    assert not by_id.judge(frame_of(scene), edit_of(recoloured)).accepted
    assert GeometryGuard().judge(frame_of(scene), edit_of(recoloured)).accepted


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
    alone = [guard.judge(f, e) for f, e in zip(frames, edits, strict=True)]
    assert repr(together) == repr(alone)
    assert [verdict.accepted for verdict in together] == [True, False, False]


def test_depth_alone_or_segmentation_alone_is_enough(
    guard: GeometryGuard, scene: LabelledImage
) -> None:
    depth = np.where(scene.depth > 1.5, np.inf, scene.depth).astype(np.float32)
    names = {1: "table", 2: "panda", 3: "cube", 4: "goal"}
    with_ids = Geometry(segmentation=scene.classes.astype(np.int32), names=names)
    for geometry in (Geometry(depth=depth), with_ids):
        verdict = guard.judge(Frame(scene.rgb, "front", geometry), edit_of(scene.rgb))
        assert verdict.accepted and verdict.source == "simulator"
        assert not math.isnan(verdict.value("outline"))


def test_roles_are_the_users_and_part_of_what_a_store_remembers() -> None:
    guard = GeometryGuard(roles={"tray": "surface"})
    assert guard.description["roles"] == {"tray": "surface"}
    assert "roles" not in GeometryGuard().description
    with pytest.raises(ConfigError, match="got 'furniture'"):
        GeometryGuard(roles={"tray": "furniture"})  # type: ignore[dict-item]


def test_an_edit_of_another_size_is_refused(
    guard: GeometryGuard, scene: LabelledImage, frame_of: FrameOf
) -> None:
    with pytest.raises(FrameError, match="Resize the edit"):
        guard.judge(frame_of(scene), edit_of(scene.rgb[:64]))
    with pytest.raises(FrameError, match="one edit a frame"):
        guard.judge_batch([frame_of(scene)], [])


@pytest.mark.parametrize("shape", [(16, 16), (16, 240), (240, 16), (97, 61), (480, 640)])
def test_frames_of_any_shape_are_judged(shape: tuple[int, int]) -> None:
    rgb = np.full((*shape, 3), 150, np.uint8)
    rgb[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = (200, 40, 40)
    ids = (rgb[..., 1] == 40).astype(np.int32)
    depth = np.where(ids == 1, 1.0, 2.0).astype(np.float32)
    for geometry in (None, Geometry(depth, ids, {0: "table", 1: "cube"}), Geometry(depth)):
        frame = Frame(rgb, "front", geometry)
        darker = (rgb * 0.8).astype(np.uint8)
        assert GeometryGuard().judge(frame, edit_of(darker)).accepted
        if min(shape) > 60:
            empty = np.full_like(rgb, 150)
            assert not GeometryGuard().judge(frame, edit_of(empty)).accepted
