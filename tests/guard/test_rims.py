"""Tests of readings along rims and of the motion that is fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.outlines import scene_of
from spie_robo.guard.placement import Placement, place
from spie_robo.guard.rims import read_rims
from spie_robo.guard.stack import images_on, stack_scenes
from spie_robo.types import RGB, Frame

FrameOf = Callable[[LabelledImage], Frame]


def _soft(image: NDArray[np.floating]) -> RGB:
    """A picture as a camera takes it: rims are a pixel wide."""
    return np.clip(np.rint(cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.7)), 0, 255).astype(
        np.uint8
    )


def _square(left: float, size: float, colours: tuple[int, int] = (150, 40)) -> RGB:
    """A square on a table, drawn exactly at a fraction of a pixel."""
    positions = np.arange(0.5, 8 * 128) / 8
    cover = ((positions >= left) & (positions < left + size)).reshape(128, 8).mean(axis=1)
    rows = ((positions >= 60) & (positions < 60 + size)).reshape(128, 8).mean(axis=1)
    alpha = (rows[:, None] * cover[None])[..., None]
    return _soft((1 - alpha) * colours[0] + alpha * np.array([colours[1], 60, 200]))


def _placed(raw: RGB, edit: RGB) -> Placement:
    stack = stack_scenes([scene_of(Frame(raw))], "cpu")
    return place(stack, read_rims(stack, images_on([edit], "cpu")))


@pytest.mark.parametrize("shift", [1.5, 2.5, 3.5])
def test_a_known_shift_is_measured(shift: float) -> None:
    found = _placed(_square(40, 20), _square(40 + shift, 20))
    # What is reported is the least that the rims allow: two standard errors less.
    assert shift - 0.7 < float(found.moved.max()) < shift + 0.1
    assert float(found.warped.max()) == pytest.approx(shift, abs=0.5)


@pytest.mark.parametrize("growth", [-1.0, -0.5, 0.5, 1.0])
def test_a_known_change_of_size_is_measured(growth: float) -> None:
    edit = _square(40, 20 + 2 * growth)
    edit = np.roll(edit, (-int(np.floor(growth)),) * 2, axis=(0, 1)) if growth % 1 == 0 else edit
    found = _placed(_square(40, 20), edit)
    assert 0.3 * abs(growth) < float(found.resized.max()) < 2.5 * abs(growth)


def test_an_unchanged_picture_has_not_moved_at_all() -> None:
    found = _placed(_square(40, 20), _square(40, 20))
    assert float(found.moved.max()) == float(found.resized.max()) == float(found.warped.max()) == 0
    assert float(found.outline.min()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("colours", [(40, 150), (230, 100), (60, 10)])
def test_another_colour_of_table_and_object_moves_nothing(colours: tuple[int, int]) -> None:
    found = _placed(_square(40, 20), _square(40, 20, colours))
    assert float(found.moved.max()) == 0 and float(found.outline.min()) > 0.85
    assert float(found.resized.max()) < 0.1


def test_a_removed_object_has_no_outline() -> None:
    empty = np.full((128, 128, 3), 150, np.uint8)
    assert float(_placed(_square(40, 20), empty).outline.max()) < 0.05


def test_what_melts_loses_its_outline_and_what_only_darkens_does_not() -> None:
    raw = _square(40, 20)
    melted = (150 + 0.1 * (raw.astype(float) - 150)).astype(np.uint8)
    # Another square keeps its contrast, so that the picture as a whole is not flatter.
    both, half = raw.copy(), melted.copy()
    both[100:120, 90:110] = half[100:120, 90:110] = (10, 10, 10)
    scene = scene_of(Frame(both))
    stack = stack_scenes([scene], "cpu")
    found = place(stack, read_rims(stack, images_on([half], "cpu")))
    melting = next(i for i, s in enumerate(scene.silhouettes) if s.centre[1] < 90)
    assert float(found.outline[0, melting]) < 0.5
    assert float(_placed(raw, (raw * 0.5).astype(np.uint8)).outline.min()) > 0.9


def test_a_rim_that_the_raw_frame_does_not_show_is_not_judged(
    scene: LabelledImage, frame_of: FrameOf
) -> None:
    hidden = LabelledImage(np.full_like(scene.rgb, 120), scene.depth, scene.classes)
    stack = stack_scenes([scene_of(frame_of(hidden))], "cpu")
    assert not place(stack, read_rims(stack, stack.raw)).judged.any()


def test_a_batch_reads_as_its_frames_alone(
    make_scene: Callable[..., LabelledImage], frame_of: FrameOf
) -> None:
    frames = [frame_of(make_scene()), frame_of(make_scene(goal=False))]
    edits = [np.roll(frame.rgb, 2, axis=1) for frame in frames]
    scenes = [scene_of(frame) for frame in frames]
    together = stack_scenes(scenes, "cpu")
    placed = place(together, read_rims(together, images_on(edits, "cpu")))
    for index, (scene, edit) in enumerate(zip(scenes, edits, strict=True)):
        alone = stack_scenes([scene], "cpu")
        expected = place(alone, read_rims(alone, images_on([edit], "cpu")))
        count = len(scene.silhouettes)
        for name in ("outline", "moved", "resized"):
            torch.testing.assert_close(
                getattr(placed, name)[index, :count], getattr(expected, name)[0], atol=1e-3, rtol=0
            )
