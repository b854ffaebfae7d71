"""robosuite, LIBERO, dm_control and Meta-World: their ways to keep and store a MuJoCo world.

The attributes are those of robosuite 1.5.2 (1.4.0 has the same), dm_control 1.0 and Meta-World
3.1.1; ``benchmarks/simulators.py`` runs the releases themselves.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spie_robo.simulators import DMControl, Libero, MetaWorld, Robosuite, find_simulator
from spie_robo.simulators.agreement import best_orientation
from spie_robo.simulators.orientation import BOTTOM_ROW_FIRST, MIRRORED, UPRIGHT
from spie_robo.simulators.views import ObservedCamera, ViewRequest

ROWS = slice(None, None, -1)


def view(simulator, env, picture, name="front_image"):
    camera = ObservedCamera(name, (name,), 96, 128)
    return simulator.views(ViewRequest(env, {name: picture}, {}, (camera,)))[name]


@pytest.fixture
def robosuite_env(scene):
    import mujoco

    option = mujoco.MjvOption()
    option.geomgroup[0] = 0  # robosuite hides collision geoms, which are group 0
    sim = SimpleNamespace(
        model=SimpleNamespace(_model=scene[0]),
        data=SimpleNamespace(_data=scene[1]),
        _render_context_offscreen=SimpleNamespace(vopt=option),
    )
    kind = type("Lift", (), {"__module__": "robosuite.environments.manipulation.lift"})
    env = kind()
    env.sim, env.option = sim, option
    return env


def test_robosuites_bottom_row_first_is_turned_with_its_visible_geoms_only(robosuite_env, draw):
    robosuite_env.option.geomgroup[0] = 1
    simulator = find_simulator(robosuite_env)
    picture = draw("front")[ROWS]
    seen = view(simulator, robosuite_env, picture)
    assert (simulator.name, seen.orientation) == ("robosuite", BOTTOM_ROW_FIRST)
    assert best_orientation(picture, seen.geometry) == BOTTOM_ROW_FIRST
    robosuite_env.option.geomgroup[0] = 0
    names = view(simulator, robosuite_env, picture).geometry
    there = {names.names[i] for i in np.unique(names.segmentation).tolist()}
    assert there == {"background", "goal"}


def test_robosuites_other_convention_is_read_from_its_macros(robosuite_env, draw, monkeypatch):
    macros = SimpleNamespace(IMAGE_CONVENTION="opencv")
    monkeypatch.setitem(__import__("sys").modules, "robosuite.macros", macros)
    assert view(Robosuite(), robosuite_env, draw("front")).orientation == UPRIGHT


def test_a_new_model_after_a_hard_reset_is_drawn_anew(robosuite_env, draw):
    import mujoco

    robosuite_env.option.geomgroup[0] = 1
    simulator = Robosuite()
    view(simulator, robosuite_env, draw("front")[ROWS])
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom name='ball' size='0.3'/>"
        "<camera name='front' pos='0 -2 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    robosuite_env.sim.model._model, robosuite_env.sim.data._data = model, data
    geometry = view(simulator, robosuite_env, draw("front")).geometry
    names = {geometry.names[i] for i in np.unique(geometry.segmentation).tolist()}
    assert names == {"background", "ball"}


def test_libero_knows_lerobots_names_and_what_its_turn_does_to_left_and_right(robosuite_env, draw):
    robosuite_env.option.geomgroup[0] = 1
    raw, turned = draw("front")[ROWS], draw("front")[:, ::-1]  # turned: LeRobot's, both axes
    names = {"image": "front"}
    seen = view(Libero(cameras=names), robosuite_env, raw, "image")
    assert seen.orientation == BOTTOM_ROW_FIRST == best_orientation(raw, seen.geometry)
    seen = view(Libero(cameras=names, turned_by_lerobot=True), robosuite_env, turned, "image")
    assert seen.orientation == MIRRORED == best_orientation(turned, seen.geometry)


def test_dm_controls_physics_is_found_through_the_env_of_gym_aloha(scene, draw):
    pointers = (SimpleNamespace(ptr=part) for part in scene)
    physics = SimpleNamespace(model=next(pointers), data=next(pointers))
    kind = type("AlohaEnv", (), {"__module__": "gym_aloha.env"})
    env = kind()
    env._env = SimpleNamespace(physics=physics)
    simulator = find_simulator(env)
    seen = view(simulator, env, draw("front"))
    assert simulator.name == DMControl.name
    assert seen.orientation == UPRIGHT == best_orientation(draw("front"), seen.geometry)


def test_meta_worlds_upside_down_camera_is_rotated(scene_env):
    env = scene_env("hanging")
    type(env).__module__, before = "metaworld.envs.pick_place", type(env).__module__
    try:
        simulator = find_simulator(env)
    finally:
        type(env).__module__ = before
    assert simulator.name == MetaWorld.name
    seen = view(simulator, env, env.reset()[0]["hanging_image"], "hanging_image")
    assert seen.orientation.name == "rotated"
