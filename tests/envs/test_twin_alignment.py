"""The twin's silhouettes lie on the simulator's, to the pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.envs.twin import mitsuba_scene
from spie_robo.envs.twin.alignment import Alignment, measure_alignment

# Of a silhouette of 150 pixels 45 are its edge, where one pixel of rounding is not alignment.
EXACT = {"foreground": 500, "robot": 500, "boxes": 150}


@pytest.fixture(scope="module")
def sampler() -> Iterator[SceneSampler]:
    mitsuba_scene.mitsuba()
    import drjit

    drjit.set_thread_count(1)
    sampler = SceneSampler(128, 128)
    yield sampler
    sampler.close()


def assert_aligned(measured: list[Alignment], seed: int) -> None:
    assert measured[0].group == "foreground"
    for entry in measured:
        if entry.pixels >= EXACT.get(entry.group, np.inf):
            assert entry.iou >= 0.97, f"seed {seed}: {entry}"
        # Round objects differ in shape (see measure_alignment), not in place.
        if entry.pixels >= 150:
            assert entry.offset < 0.75, f"seed {seed}: {entry}"
            assert entry.iou >= 0.88, f"seed {seed}: {entry}"


def test_one_state_is_aligned(sampler: SceneSampler) -> None:
    assert_aligned(measure_alignment(sampler.sample(0)), 0)


@pytest.mark.slow
def test_twenty_states_are_aligned(sampler: SceneSampler) -> None:
    checked = 0
    for seed in range(20):
        measured = measure_alignment(sampler.sample(seed))
        assert_aligned(measured, seed)
        checked += sum(entry.pixels >= EXACT.get(entry.group, np.inf) for entry in measured)
    assert checked >= 40


def test_a_pixel_of_shift_would_be_noticed(sampler: SceneSampler) -> None:
    scene = sampler.sample(0)
    camera = scene.state.cameras[0]
    moved = camera.extrinsics.copy()
    turn = np.radians(camera.vertical_fov / camera.height)
    moved[:3] = np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    ) @ moved[:3]  # fmt: skip
    state = dataclasses.replace(
        scene.state, cameras=(dataclasses.replace(camera, extrinsics=moved),)
    )
    shifted = measure_alignment(dataclasses.replace(scene, state=state))[0]
    straight = measure_alignment(scene)[0]
    assert shifted.offset > 0.6 > 3 * straight.offset
    assert shifted.iou < straight.iou - 0.01
