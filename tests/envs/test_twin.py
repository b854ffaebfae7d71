"""Styles, sensor, renderer, wrapper and pool of the photoreal twin."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import spie_robo.envs  # noqa: F401
from spie_robo.envs.scene_state import SceneState, look_at
from spie_robo.envs.twin import (
    NAMED_STYLES,
    Sensor,
    Style,
    TwinJob,
    TwinRenderer,
    TwinWrapper,
    describe,
    find_style,
    mitsuba_scene,
    render_many,
    renderer,
    sample_lab_style,
    sample_style,
)
from spie_robo.envs.twin.pool import run_in_fresh_processes
from spie_robo.envs.twin.sensor import (
    expose,
    linear_to_srgb,
    metered_gain,
    sensor_noise,
    srgb_to_linear,
)
from spie_robo.envs.twin.textures import texture
from spie_robo.errors import ConfigError, EnvError, MissingExtraError

TINY = TwinRenderer(samples=2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Tests run side by side: renderers that each take all cores only wait for each other."""
    mitsuba_scene.mitsuba()
    import drjit

    drjit.set_thread_count(1)


@pytest.fixture(scope="module")
def state() -> Iterator[SceneState]:
    env: Any = gym.make("SpieRobo/Push-v0", width=32, height=32).unwrapped
    env.reset(seed=0)
    yield env.scene_state()
    env.close()


def small(**options: Any) -> Any:
    return gym.make("SpieRobo/Push-v0", width=32, height=32, **options)


# Styles.


def test_sampled_styles_depend_on_their_seed_alone() -> None:
    assert sample_style(3) == sample_style(3)
    assert len({repr(sample_style(seed)) for seed in range(50)}) == 50
    assert find_style("style-3") == sample_style(3)
    assert find_style("oak-lab") is NAMED_STYLES["oak-lab"]
    assert find_style("lab-3") == sample_lab_style(3)
    with pytest.raises(ConfigError, match="oak-lab"):
        find_style("oak")


def test_descriptions_name_surfaces_and_light() -> None:
    words = describe(NAMED_STYLES["oak-lab"])
    assert words == (
        "make it a photo of a lab with a beige plank table, a white plaster wall, "
        "a grey tiled floor, bright warm light"
    )
    dim = replace(Style(), sensor=Sensor(exposure=-0.45))
    assert "dim" in describe(dim) and "bright" in describe(Style())
    cold = replace(Style(), sensor=Sensor(white_balance=(0.7, 1.0, 1.3)))
    assert "cold" in describe(cold)
    assert len({describe(sample_style(seed)) for seed in range(100)}) > 60


@pytest.mark.parametrize("seed", range(12))
def test_textures_are_images_and_repeatable(seed: int) -> None:
    material = sample_style(seed).table
    image = texture(material, 40, 56)
    assert image.shape == (40, 56, 3) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1
    np.testing.assert_array_equal(image, texture(material, 40, 56))


# Sensor.


def test_transfer_curve_is_srgb_and_inverts() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-5)
    assert srgb_to_linear(np.array([0.5], np.float32))[0] == pytest.approx(0.21404, abs=1e-4)


def test_sensor_noise_has_the_strength_asked_for_and_follows_its_seed() -> None:
    grey = np.full((64, 64, 3), 0.25, np.float32)
    noise = sensor_noise(grey, 0.02, seed=1)
    assert noise.std() == pytest.approx(0.02 * 0.75, rel=0.05)
    assert abs(noise.mean()) < 1e-3
    np.testing.assert_array_equal(noise, sensor_noise(grey, 0.02, seed=1))
    assert not np.array_equal(noise, sensor_noise(grey, 0.02, seed=2))
    noisy = Sensor(noise=0.02)
    np.testing.assert_array_equal(expose(grey, noisy, None), expose(grey, Sensor(), 5))
    assert not np.array_equal(expose(grey, noisy, 5), expose(grey, noisy, None))


def test_exposure_white_balance_and_vignette() -> None:
    grey = np.full((33, 33, 3), 0.2, np.float32)
    neutral = Sensor(vignette=0.0)
    base = expose(grey, neutral)
    assert len(np.unique(base)) == 1
    assert expose(grey, replace(neutral, exposure=1.0)).mean() > base.mean() + 20
    warm = expose(grey, replace(neutral, white_balance=(1.2, 1.0, 0.8)))
    assert warm[0, 0, 0] > warm[0, 0, 1] > warm[0, 0, 2]
    dark = expose(grey, replace(neutral, vignette=0.3))
    assert dark[0, 0, 0] < dark[16, 16, 0] == base[16, 16, 0]
    # A highlight of ten times white stays below clipping into a flat patch of 255 at once.
    assert expose(np.full((2, 2, 3), 0.9, np.float32), neutral).max() < 255


def test_metering_brings_dark_and_bright_scenes_towards_mid_grey() -> None:
    dark, bright = (np.full((8, 8, 3), value, np.float32) for value in (0.05, 2.0))
    assert metered_gain(dark) > 1.5 and metered_gain(bright) < 0.5
    assert metered_gain(dark, strength=0) == metered_gain(bright, strength=0) == 1
    assert metered_gain(dark, strength=1) * 0.05 == pytest.approx(0.2, abs=0.06)
    assert metered_gain(np.zeros((8, 8, 3), np.float32)) == 4


# Renderer.


def test_same_seed_same_bytes(state: SceneState) -> None:
    style = sample_style(1)
    one = TINY.render(state, "front", style, seed=4)
    TINY.render(state, "wrist", sample_style(2), seed=9)
    np.testing.assert_array_equal(one, TINY.render(state, "front", style, seed=4))
    assert not np.array_equal(one, TINY.render(state, "front", style, seed=5))
    other = TINY.render(state, "front", sample_style(2), seed=4)
    assert np.abs(one.astype(int) - other).mean() > 5
    assert one.shape == (32, 32, 3) and one.dtype == np.uint8


def test_bytes_do_not_depend_on_threads_or_on_the_order_of_lamps(
    state: SceneState, monkeypatch: pytest.MonkeyPatch
) -> None:
    import drjit

    style = next(s for s in map(sample_style, range(99)) if len(s.lamps) == 3)
    expected = TINY.radiance(state, "front", style)
    drjit.set_thread_count(8)
    threaded = TINY.radiance(state, "front", style)
    drjit.set_thread_count(1)
    np.testing.assert_array_equal(threaded, expected)

    swapped = []
    lights_of = mitsuba_scene._lights

    def swap(style: Style, state: SceneState) -> dict[str, Any]:
        """Make the list come in another order, as another run's addresses might."""
        lights = lights_of(style, state)
        swapped.append(True)
        names = [name for name in lights if name.startswith("lamp")]
        turned = dict(zip(names, [lights[name] for name in reversed(names)], strict=True))
        return {**lights, **turned}

    reorder = mitsuba_scene._order_lamps

    def restore(scene: Any, style: Style) -> None:
        """The scene lists lamp_2, lamp_1, lamp_0, and they are where 0, 1, 2 belong: swap back."""
        parameters = mitsuba_scene.mitsuba().traverse(scene)
        for name in ("to_world", "emitter.radiance.value"):
            one, other = f"lamp_0.{name}", f"lamp_2.{name}"
            kept = type(parameters[one])(parameters[one])
            parameters[one] = type(kept)(parameters[other])
            parameters[other] = kept
        parameters.update()
        reorder(scene, style)

    monkeypatch.setattr(mitsuba_scene, "_lights", swap)
    monkeypatch.setattr(mitsuba_scene, "_order_lamps", restore)
    np.testing.assert_array_equal(TINY.radiance(state, "front", style), expected)
    assert swapped


def test_lamps_hang_above_all_cameras_and_light_as_much(state: SceneState) -> None:
    style = NAMED_STYLES["evening-desk"]
    high = replace(
        state.cameras[0],
        extrinsics=look_at(np.array([0.4, 0.0, 3.5]), np.array([0.4, 0, 0]), np.array([1.0, 0, 0])),
    )
    above = replace(state, cameras=(high,))
    (offset,) = mitsuba_scene._lamp_offsets(style, above)
    assert offset[2] + state.focus[2] > 3.5
    (usual,) = mitsuba_scene._lamp_offsets(style, state)
    assert usual[2] == pytest.approx(style.lamps[0].position[2])
    # The lamp is not in the picture, and the table is about as bright as with the lamp below.
    lit = TINY.radiance(above, "front", style)
    assert lit[14:18, 14:18].mean() > 0.05


def test_cube_stays_red_in_every_named_style(state: SceneState) -> None:
    env: Any = small().unwrapped
    _, info = env.reset(seed=0)
    mask = info["geometry"]["wrist"].segmentation == env._cube_body
    assert mask.sum() > 10
    for style in NAMED_STYLES.values():
        red, green, blue = TINY.render(state, "wrist", style)[mask].mean(axis=0)
        assert red > 1.5 * max(green, blue)


def test_stray_nan_samples_do_not_reach_the_image(
    state: SceneState, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mitsuba_scene.mitsuba()

    class Spoiled:
        @staticmethod
        def render(scene: Any, seed: int) -> np.ndarray:
            channels = np.array(real.render(scene, seed=seed))
            channels[3, 5] = np.nan
            channels[8, 9, 0] = np.inf
            return channels

    style = sample_style(1)
    clean = TINY.radiance(state, "front", style)
    monkeypatch.setattr(renderer, "mitsuba", lambda: Spoiled)
    radiance = TINY.radiance(state, "front", style)
    assert np.isfinite(radiance).all()
    assert np.abs(radiance[20:] - clean[20:]).max() < 0.05


def test_missing_extra_is_named(state: SceneState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyoidn", None)
    with pytest.raises(MissingExtraError, match=r"spie-robo\[photoreal\]"):
        TINY.render(state, "front", Style())
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    mitsuba_scene.mitsuba.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"spie-robo\[photoreal\]"):
            TwinWrapper(small())
    finally:
        mitsuba_scene.mitsuba.cache_clear()


# Wrapper.


def test_checker_has_nothing_to_say_about_the_wrapper() -> None:
    env = TwinWrapper(small(render_mode="rgb_array"), samples=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It says so of every wrapped env.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(env)
    env.close()


def test_wrapper_changes_images_and_nothing_else() -> None:
    env, reference = TwinWrapper(small(), samples=1, cameras=("front",)), small()
    observation, info = env.reset(seed=1)
    expected, expected_info = reference.reset(seed=1)
    assert observation in env.observation_space
    np.testing.assert_array_equal(observation["state"], expected["state"])
    np.testing.assert_array_equal(observation["wrist"], expected["wrist"])
    assert np.abs(observation["front"].astype(int) - expected["front"]).mean() > 5
    assert info["geometry"] == expected_info["geometry"]
    action = np.array([0.3, 0, 0, 0], np.float32)
    assert env.step(action)[1:4] == reference.step(action)[1:4]


def test_wrapper_is_a_function_of_its_seed() -> None:
    fresh, used = TwinWrapper(small(), samples=1), TwinWrapper(small(), samples=1)
    used.reset(seed=9)
    used.step(used.action_space.sample())
    results = []
    for env in (fresh, used):
        first, info = env.reset(seed=2)
        style = info["style"]
        after = env.step(np.zeros(4, np.float32))[0]
        following = env.reset()[1]["style"]
        results.append((first["front"], after["wrist"], style, following))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[0][2:] == results[1][2:] and results[0][2] != results[0][3]


def test_wrapper_keeps_a_chosen_style_and_rebuilds_from_its_spec() -> None:
    env = TwinWrapper(small(), style="steel-bench", samples=1)
    assert {env.reset(seed=seed)[1]["style"] for seed in (0, 1)} == {"steel-bench"}
    again = gym.make(env.spec)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.reset(seed=1)[0]["front"], env.reset(seed=1)[0]["front"])


def test_a_style_of_ones_own_survives_the_spec_as_json() -> None:
    style = replace(sample_style(4), name="mine")
    env = TwinWrapper(small(), style=style, samples=1)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.get_wrapper_attr("style") == style
    (image, info), (other, other_info) = env.reset(seed=1), again.reset(seed=1)
    np.testing.assert_array_equal(image["front"], other["front"])
    assert info["style"] == other_info["style"] == "mine"


def test_wrapper_names_mistakes() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'lamps'"):
        TwinWrapper(small(), style={"lamp": []})
    with pytest.raises(ConfigError, match="steel"):
        TwinWrapper(small(), style="steel")
    with pytest.raises(ConfigError, match="side"):
        TwinWrapper(small(), cameras=("side",))
    with pytest.raises(ConfigError, match="samples"):
        TwinWrapper(small(), samples=0)
    with pytest.raises(EnvError, match="SpieRobo"):
        TwinWrapper(gym.make("CartPole-v1"))


# Pool.


@pytest.mark.slow
def test_pool_gives_the_renderers_bytes_in_order(state: SceneState) -> None:
    jobs = [TwinJob(state, "front", sample_style(seed), seed, samples=1) for seed in range(5)]
    expected = [TwinRenderer(1).render(state, "front", job.style, job.seed) for job in jobs]
    for workers, frames in ((1, 3), (2, 2)):
        images = list(render_many(jobs, workers, frames_per_worker=frames))
        assert len(images) == 5
        for image, wanted in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image, wanted)


@pytest.mark.slow
def test_pool_uses_a_new_process_for_every_task_and_reads_little_ahead() -> None:
    taken = []

    def tasks() -> Iterator[Callable[[], int]]:
        for index in range(6):
            taken.append(index)
            yield os.getpid

    processes = []
    for count, process in enumerate(
        run_in_fresh_processes(operator.methodcaller("__call__"), tasks(), 1), start=1
    ):
        processes.append(process)
        assert len(taken) <= count + 2
    assert len(set(processes)) == 6


@pytest.mark.slow
def test_killed_worker_is_a_named_error() -> None:
    with pytest.raises(EnvError, match="killed"):
        list(run_in_fresh_processes(os._exit, [1], 1))


def test_pool_names_mistakes() -> None:
    with pytest.raises(ConfigError, match="workers"):
        list(run_in_fresh_processes(os._exit, [], 0))
    with pytest.raises(ConfigError, match="frames_per_worker"):
        list(render_many([], frames_per_worker=0))
