"""The twin's silhouettes lie on the simulator's, to the pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.envs.twin import mitsuba_scene
from spie_robo.envs.twin.alignment import Alignment, measure_alignment

# Of a box of 200 pixels 55 are its edge, where the renderers may round differently. Round objects
# differ in shape (see measure_alignment) and not in place.
LEAST_IOU = {"foreground": 0.97, "robot": 0.97, "boxes": 0.95, "round objects": 0.90}
MIN_PIXELS = 150


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
        assert entry.iou >= LEAST_IOU[entry.group], f"seed {seed}: {entry}"
        # The foreground is many things: where one is drawn larger, the centroid of all moves.
        if entry.group != "foreground":
            assert entry.offset < 0.5, f"seed {seed}: {entry}"


def test_one_state_is_aligned(sampler: SceneSampler) -> None:
    assert_aligned(measure_alignment(sampler.sample(0), MIN_PIXELS), 0)


@pytest.mark.slow
def test_twenty_states_are_aligned(sampler: SceneSampler) -> None:
    checked: list[str] = []
    for seed in range(20):
        measured = measure_alignment(sampler.sample(seed), MIN_PIXELS)
        assert_aligned(measured, seed)
        checked += [entry.group for entry in measured]
    assert checked.count("foreground") == 20
    assert min(checked.count(group) for group in LEAST_IOU) >= 5


@pytest.mark.slow
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
