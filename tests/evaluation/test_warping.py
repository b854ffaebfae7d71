"""A plane seen by a camera that moves, with an exact answer, and Push's own wrist camera."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

import spie_robo.envs  # noqa: F401  # registers the tasks
from spie_robo.envs.experts import make_expert
from spie_robo.envs.perturbations import PerturbationWrapper
from spie_robo.errors import FrameError
from spie_robo.evaluation.warping import static_flow, warping_error, warping_ratio
from spie_robo.types import RGB, Frame, Geometry

SIDE, FOCAL, SHIFT = 48, 100.0, 4
WALL = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 8 * SHIFT, 3)).astype(np.uint8)
INTRINSICS = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])


def geometry(step: int) -> Geometry:
    """A wall two metres away; each step the camera goes right by what moves it 4 pixels left."""
    extrinsics = np.eye(4)
    extrinsics[0, 3] = -step * SHIFT * 2.0 / FOCAL
    depth = np.full((SIDE, SIDE), 2.0, np.float32)
    names = {0: "wall", 1: "cube"}
    return Geometry(depth, np.zeros((SIDE, SIDE), np.int32), names, INTRINSICS, extrinsics)


def view(step: int) -> RGB:
    return WALL[:, step * SHIFT : step * SHIFT + SIDE].copy()


def with_box(known: Geometry, depth: float) -> Geometry:
    """The same with a cube that covers rows and columns 10 to 29."""
    assert known.depth is not None and known.segmentation is not None
    metres, ids = known.depth.copy(), known.segmentation.copy()
    metres[10:30, 10:30], ids[10:30, 10:30] = depth, 1
    return replace(known, depth=metres, segmentation=ids)


def boxed(image: RGB) -> RGB:
    image = image.copy()
    image[10:30, 10:30] = 255 - image[10:30, 10:30]
    return image


def test_the_flow_of_a_wall_is_the_known_shift() -> None:
    flow = static_flow(geometry(0), geometry(1))
    np.testing.assert_allclose(flow.displacement[..., 0], -SHIFT, atol=1e-3)
    np.testing.assert_allclose(flow.displacement[..., 1], 0, atol=1e-3)
    assert flow.valid[:, SHIFT:].all() and not flow.valid[:, :SHIFT].any()


def test_consistent_frames_have_no_error_and_flickering_ones_their_flicker() -> None:
    assert warping_error(view(0), view(1), geometry(0), geometry(1)) == 0
    dim, bright = view(0) // 2, view(1) // 2 + 51
    assert warping_error(dim, bright, geometry(0), geometry(1)) == pytest.approx(0.2)
    assert warping_error(view(0), view(0), geometry(0), geometry(1)) > 0.2  # stuck to the screen


def test_a_turning_camera_sees_a_slanted_plane_between_its_pixels() -> None:
    def look(turn: float, forward: float) -> tuple[RGB, Geometry]:
        """World plane z = 2 + 0.3 x - 0.2 y, painted by its world coordinates."""
        extrinsics = np.eye(4)
        extrinsics[0, 0] = extrinsics[2, 2] = np.cos(turn)
        extrinsics[0, 2], extrinsics[2, 0] = np.sin(turn), -np.sin(turn)
        extrinsics[2, 3] = -forward
        rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
        rays = np.stack([(columns - 24) / FOCAL, (rows - 24) / FOCAL, np.ones_like(rows)], axis=2)
        rays = rays @ extrinsics[:3, :3]
        centre = -extrinsics[:3, :3].T @ extrinsics[:3, 3]
        normal = np.array([-0.3, 0.2, 1.0])
        depth = (2 - centre @ normal) / (rays @ normal)
        points = centre + depth[..., None] * rays
        image = (127.5 + 120 * np.sin(8 * points)).astype(np.uint8)
        return image, Geometry(depth.astype(np.float32), None, {}, INTRINSICS, extrinsics)

    (before, known_before), (after, known_after) = look(0.0, 0.0), look(0.06, 0.2)
    error = warping_error(before, after, known_before, known_after)
    unwarped = np.abs(before.astype(float) - after).mean() / 255
    assert error < 1 / 255
    assert unwarped > 0.1
    moved = known_after.intrinsics + np.array([[0, 0, 0.5], [0, 0, 0], [0, 0, 0]])
    assert warping_error(before, after, known_before, replace(known_after, intrinsics=moved)) > (
        4 * error
    )


@pytest.mark.parametrize("named", [True, False])
def test_hidden_points_do_not_count(named: bool) -> None:
    known = [geometry(0), with_box(geometry(1), 1.5)]
    known = known if named else [replace(g, names={}, segmentation=None) for g in known]
    assert warping_error(view(0), boxed(view(1)), *known) == 0
    assert warping_error(boxed(view(1)), view(0), *reversed(known)) == 0
    flow = static_flow(*known)
    assert not flow.valid[10:30, 14:34].any()
    assert flow.valid[:, SHIFT:].sum() == SIDE * (SIDE - SHIFT) - 400


def test_things_do_not_count_where_surfaces_are_named() -> None:
    flat = [geometry(0), with_box(geometry(1), 2.0)]  # too thin for the depth to tell
    assert warping_error(view(0), boxed(view(1)), *flat) == 0
    nameless = [replace(g, names={}) for g in flat]
    assert warping_error(view(0), boxed(view(1)), *nameless) > 0.05
    things = [replace(g, names={0: "cube", 1: "panda"}) for g in flat]
    assert warping_error(view(0), boxed(view(1)), *things) > 0.05


def test_no_valid_pixels_is_not_a_number() -> None:
    far = geometry(20)  # the views do not overlap
    assert math.isnan(warping_error(view(0), view(1), geometry(0), far))
    blind = replace(geometry(1), depth=np.zeros((SIDE, SIDE), np.float32))
    assert math.isnan(warping_error(view(0), view(1), geometry(0), blind))
    assert math.isnan(warping_error(view(0), view(1), blind, geometry(0)))
    behind = replace(geometry(1), extrinsics=np.diag([-1.0, 1.0, -1.0, 1.0]))
    assert math.isnan(warping_error(view(0), view(1), geometry(0), behind))


def test_the_ratio_is_one_of_means_over_pairs() -> None:
    offsets = np.array([0, 5, 0, 5], np.uint8)  # the raw frames flicker by 5 grey levels,
    raw = [view(t) // 4 + offsets[t] for t in range(4)]
    edits = [view(t) // 4 + 4 * offsets[t] for t in range(4)]  # the edits by 20
    frames = [Frame(image, "wrist", geometry(t)) for t, image in enumerate(raw)]
    assert warping_ratio(edits, frames) == pytest.approx(4)
    assert warping_ratio(raw, frames) == pytest.approx(1)
    frames[3] = Frame(raw[3], "wrist", geometry(20))  # this pair has no valid pixels
    assert warping_ratio(edits, frames) == pytest.approx(4)


def test_a_raw_error_of_nothing_counts_as_half_a_grey_level() -> None:
    frames = [Frame(view(t), "wrist", geometry(t)) for t in range(2)]
    edits = [view(0) // 2, view(1) // 2 + np.uint8(3)]
    assert warping_ratio(edits, frames) == pytest.approx(6)
    assert math.isnan(warping_ratio(edits[:1], frames[:1]))
    assert math.isnan(warping_ratio([], []))


def test_what_is_missing_is_said() -> None:
    frames = [Frame(view(t), "wrist", geometry(t)) for t in range(2)]
    images = [frame.rgb for frame in frames]
    with pytest.raises(FrameError, match="one edit a frame"):
        warping_ratio(images[:1], frames)
    with pytest.raises(FrameError, match="one camera"):
        warping_ratio(images, [frames[0], replace(frames[1], camera="front")])
    with pytest.raises(FrameError, match="depth and intrinsics and extrinsics unknown"):
        warping_ratio(images, [frames[0], replace(frames[1], geometry=None)])
    with pytest.raises(FrameError, match=r"before.*extrinsics unknown"):
        static_flow(replace(geometry(0), extrinsics=None), geometry(1))
    with pytest.raises(FrameError, match="like their depth"):
        warping_error(view(0)[:32], view(1), geometry(0), geometry(1))
    small = replace(geometry(1), depth=np.ones((32, 32), np.float32))
    with pytest.raises(FrameError, match="one size"):
        static_flow(geometry(0), small)


def test_pushs_wrist_camera_moves_over_a_table_that_does_not() -> None:
    env = PerturbationWrapper(gymnasium.make("SpieRobo/Push-v0"), "table-texture")
    observation, info = env.reset(seed=5)
    expert, frames = make_expert(env), []
    for _ in range(2):
        frames.append(Frame(observation["wrist"].copy(), "wrist", info["geometry"]["wrist"]))
        observation, *_, info = env.step(expert.act(observation))
    env.close()
    before, after = frames
    assert before.geometry is not None and after.geometry is not None
    flow = static_flow(before.geometry, after.geometry)
    assert np.abs(flow.displacement[flow.valid]).max() > 4
    assert 0.3 < flow.valid.mean() < 0.9
    unwarped = np.abs(before.rgb.astype(float) - after.rgb)[flow.valid].mean() / 255
    error = warping_error(before.rgb, after.rgb, before.geometry, after.geometry)
    assert 0 < error < unwarped / 4
    for pixels in (-1.0, 1.0):  # the flow is exact: any other one fits worse
        beside = after.geometry.intrinsics + np.array([[0, 0, pixels], [0, 0, 0], [0, 0, 0]])
        other = replace(after.geometry, intrinsics=beside)
        assert warping_error(before.rgb, after.rgb, before.geometry, other) > 1.3 * error
    assert warping_ratio([before.rgb, after.rgb], frames) == pytest.approx(1)
