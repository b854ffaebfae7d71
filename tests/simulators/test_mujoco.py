"""MuJoCo: known points, a known plane, and a scene whose directions have colours."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import AddRenderObservation, ResizeObservation

from spie_robo.errors import EnvError
from spie_robo.simulators import MuJoCo, find_simulator
from spie_robo.simulators.agreement import best_orientation
from spie_robo.simulators.pinhole import project_points, world_points
from spie_robo.simulators.views import ObservedCamera, ViewRequest

RED, GREEN = (0, 1)


def look(simulator, env, observation, key="front_image", height=96, width=128):
    camera = ObservedCamera(key, (key,), height, width)
    return simulator.views(ViewRequest(env, observation, {}, (camera,)))[key]


def ids(geometry, name):
    """The pixels of what is called so."""
    (number,) = [i for i, known in geometry.names.items() if known == name]
    return geometry.segmentation == number


def coloured(image, channel):
    """The pixels in which one colour is much stronger than the others."""
    image = image.astype(int)
    others = np.delete(image, channel, axis=2).max(axis=2)
    return image[..., channel] > others + 60


def assert_same_pixels(one, other):
    """Equal but for the rim that MuJoCo smooths in pictures and not in segmentations."""
    assert one.sum() > 20 and other.sum() > 20
    assert (one & other).sum() / (one | other).sum() > 0.7


@pytest.mark.parametrize("camera", ["front", "shifted", "above"])
def test_bodies_of_known_position_are_in_the_segmentation_where_they_project(
    scene, scene_env, camera
):
    env = scene_env(camera)
    geometry = look(MuJoCo(), env, env.reset()[0], f"{camera}_image").geometry
    for body in ("red_cube", "green_cube"):
        column, row, _ = project_points([scene[1].body(body).xpos], geometry)[0]
        assert ids(geometry, body)[int(row), int(column)], (body, column, row)


def test_the_middle_of_a_body_is_where_its_top_projects_to_half_a_pixel(scene_env):
    env = scene_env("above")
    geometry = look(MuJoCo(), env, env.reset()[0], "above_image", 480, 640).geometry
    rows, columns = np.nonzero(ids(geometry, "green_cube"))
    corners = [[0.25 + x, -0.25 + y, 0.1] for x in (-0.05, 0.05) for y in (-0.05, 0.05)]
    expected = project_points(corners, geometry)[:, :2]
    # From above its top hides all but a sliver of its sides, which lie further in.
    assert abs(columns.max() + 1 - expected[:, 0].max()) < 0.6
    assert abs(rows.max() + 1 - expected[:, 1].max()) < 0.6


@pytest.mark.parametrize("camera", ["front", "shifted", "above", "hanging"])
def test_the_floor_is_a_plane_at_height_zero(scene_env, camera):
    env = scene_env(camera)
    geometry = look(MuJoCo(), env, env.reset()[0], f"{camera}_image").geometry
    heights = world_points(geometry)[ids(geometry, "floor")][:, 2]
    assert len(heights) > 500 and np.abs(heights).max() < 2e-3


@pytest.mark.parametrize("camera", ["front", "hanging"])
def test_colours_of_the_turned_picture_lie_on_their_bodies(scene_env, camera):
    env = scene_env(camera)
    observation, _ = env.reset()
    view = look(MuJoCo(), env, observation, f"{camera}_image")
    upright = view.orientation.turn(observation[f"{camera}_image"])
    assert_same_pixels(coloured(upright, RED), ids(view.geometry, "red_cube"))
    assert_same_pixels(coloured(upright, GREEN), ids(view.geometry, "green_cube"))
    assert best_orientation(observation[f"{camera}_image"], view.geometry) == view.orientation


def test_a_camera_that_hangs_upside_down_is_rotated_and_not_flipped(scene_env):
    env = scene_env("front", "hanging")
    observation, _ = env.reset()
    front = look(MuJoCo(), env, observation)
    hanging = look(MuJoCo(), env, observation, "hanging_image")
    assert (front.orientation.name, hanging.orientation.name) == ("upright", "rotated")
    # Both cameras stand in the same place: turned upright they see the same.
    np.testing.assert_array_equal(hanging.geometry.segmentation, front.geometry.segmentation)
    np.testing.assert_allclose(hanging.geometry.extrinsics, front.geometry.extrinsics, atol=1e-6)
    np.testing.assert_allclose(hanging.geometry.intrinsics, front.geometry.intrinsics, atol=1e-6)


def test_what_sees_nothing_is_nan_and_called_background(scene_env):
    env = scene_env("above")
    geometry = look(MuJoCo(), env, env.reset()[0], "above_image").geometry
    nothing = geometry.segmentation == -1
    assert nothing.any() and geometry.names[-1] == "background"
    np.testing.assert_array_equal(np.isnan(geometry.depth), nothing)


def test_geoms_of_a_body_are_one_thing_and_what_is_fixed_to_the_world_several(scene_env):
    env = scene_env("front")
    geometry = look(MuJoCo(), env, env.reset()[0]).geometry
    there = {geometry.names[i] for i in np.unique(geometry.segmentation).tolist()}
    assert there == {"background", "floor", "rail", "red_cube", "green_cube", "goal"}


def test_an_invisible_helper_is_in_neither_depth_nor_segmentation(scene, scene_env):
    env = scene_env("front")
    geometry = look(MuJoCo(), env, env.reset()[0]).geometry
    column, row, depth = project_points([scene[1].site("grip").xpos], geometry)[0]
    assert geometry.names[int(geometry.segmentation[int(row), int(column)])] != "grip"
    behind = geometry.depth[int(row), int(column)]
    assert np.isnan(behind) or behind > depth + 0.1


def test_a_moved_body_is_seen_where_it_is_now(scene, scene_env):
    import mujoco

    env, simulator = scene_env("front"), MuJoCo()
    look(simulator, env, env.reset()[0])
    scene[1].qpos[:3] = [-0.1, 0.2, 0.05]
    mujoco.mj_forward(*scene)
    geometry = look(simulator, env, env.reset()[0]).geometry
    column, row, _ = project_points([[-0.1, 0.2, 0.05]], geometry)[0]
    assert ids(geometry, "red_cube")[int(row), int(column)]


def test_an_episode_that_is_over_and_reset_has_no_geometry_any_more(scene_env):
    env = scene_env("front")
    camera = ObservedCamera("front_image", ("front_image",), 96, 128)
    assert MuJoCo().views(ViewRequest(env, env.reset()[0], {}, (camera,), live=False)) == {}


def test_a_larger_picture_than_the_model_plans_leaves_the_model_as_it_was(scene, scene_env):
    env = scene_env("front")
    geometry = look(MuJoCo(), env, env.reset()[0], height=192, width=256).geometry
    assert geometry.depth.shape == (192, 256)
    assert (scene[0].vis.global_.offwidth, scene[0].vis.global_.offheight) == (128, 128)


def test_the_gl_context_that_was_current_is_current_afterwards(scene, mujoco_gl):
    """robosuite and dm_control do not make theirs current before each picture."""
    if mujoco_gl != "egl":
        pytest.skip("the contexts of EGL alone can be asked for")
    import mujoco
    from OpenGL import EGL

    context = mujoco.GLContext(64, 64)
    context.make_current()
    own, simulator = EGL.eglGetCurrentContext().address, MuJoCo(*scene)
    for side in (48, 96, 48):
        look(simulator, None, {}, height=side, width=side)
        assert EGL.eglGetCurrentContext().address == own
    simulator.close()
    context.free()


def test_names_are_matched_by_the_user_where_keys_do_not_tell(scene_env):
    env = scene_env("front", "hanging")
    observation, _ = env.reset()
    renamed = {"eye": observation["front_image"], "other": observation["hanging_image"]}
    cameras = (
        ObservedCamera("eye", ("eye",), 96, 128),
        ObservedCamera("other", ("other",), 96, 128),
    )
    request = ViewRequest(env, renamed, {}, cameras)
    with pytest.warns(UserWarning, match="no camera of the MuJoCo model is called 'other'"):
        found = MuJoCo(cameras={"eye": "front"}).views(request)
    assert list(found) == ["eye"]
    with pytest.raises(EnvError, match="expected one of the model's cameras"):
        MuJoCo(cameras={"eye": "frnt"}).views(request)


def test_an_env_without_a_model_is_refused_with_the_way_out():
    env = gym.make("CartPole-v1")
    camera = ObservedCamera("camera", (), 32, 32)
    with pytest.raises(EnvError, match=r"geometry=MuJoCo\(model, data\)"):
        MuJoCo().views(ViewRequest(env, None, {}, (camera,)))
    with pytest.raises(EnvError, match="expected model and data, or neither"):
        MuJoCo(model=object())


@pytest.mark.slow
def test_gymnasiums_own_envs_are_found_and_their_free_camera_is_read(mujoco_gl):
    size = {"width": 128, "height": 96}
    env = gym.make("Pusher-v5", render_mode="rgb_array", **size)
    env = AddRenderObservation(env, render_only=True)
    observation, _ = env.reset(seed=0)
    simulator = find_simulator(env)
    assert simulator.name == "MuJoCo"
    camera = ObservedCamera("camera", (), 96, 128)
    view = simulator.views(ViewRequest(env, observation, {}, (camera,)))["camera"]
    assert best_orientation(observation, view.geometry) == view.orientation
    data = env.unwrapped.data
    column, row, _ = project_points([data.body("goal").xpos], view.geometry)[0]
    assert ids(view.geometry, "goal")[int(row), int(column)]
    # A picture that was squeezed: its geometry is squeezed alike.
    squeezed = ResizeObservation(env, (64, 64))
    small = simulator.views(
        ViewRequest(squeezed, observation, {}, (ObservedCamera("camera", (), 64, 64),))
    )["camera"].geometry
    column, row, _ = project_points([data.body("goal").xpos], small)[0]
    assert ids(small, "goal")[int(row), int(column)]
    env.close()
