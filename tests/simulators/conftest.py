"""A MuJoCo scene in which every direction is told by a colour, and what draws it."""

from __future__ import annotations

import ctypes.util
import gc
import importlib.util
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

# MuJoCo reads this once, when it is imported: before any test runs.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")

# A red cube on the left, a green one in front on the right, a helper that nobody sees, a marker.
SCENE = """
<mujoco>
  <visual><global offwidth="128" offheight="128"/><map znear="0.01" zfar="20"/></visual>
  <statistic extent="2" center="0 0 0"/>
  <worldbody>
    <light pos="0 0 3"/>
    <geom name="floor" type="plane" size="0.6 0.6 0.1" rgba="0.5 0.5 0.5 1"/>
    <geom name="rail" type="box" pos="0 0.5 0.05" size="0.5 0.02 0.05" rgba="0.2 0.2 0.8 1"/>
    <site name="grip" pos="0 0 0.3" size="0.05" rgba="1 1 0 0"/>
    <site name="goal" pos="0.3 0.2 0.05" size="0.05" rgba="1 1 0 1"/>
    <body name="red_cube" pos="-0.3 0 0.05">
      <freejoint/>
      <geom type="box" size="0.05 0.05 0.05" rgba="1 0 0 1"/>
      <geom type="sphere" pos="0 0 0.08" size="0.03" rgba="1 0 0 1"/>
    </body>
    <body name="green_cube" pos="0.25 -0.25 0.05">
      <freejoint/>
      <geom type="box" size="0.05 0.05 0.05" rgba="0 1 0 1"/>
    </body>
    <camera name="front" pos="0 -1.2 0.8" xyaxes="1 0 0 0 0.555 0.832" fovy="50"/>
    <camera name="hanging" pos="0 -1.2 0.8" xyaxes="-1 0 0 0 -0.555 -0.832" fovy="50"/>
    <camera name="shifted" pos="0 -1.2 0.8" xyaxes="1 0 0 0 0.555 0.832"
            resolution="128 96" focalpixel="100 110" principalpixel="12 -7" sensorsize="0.01 0.01"/>
    <camera name="above" pos="0 0 2" xyaxes="1 0 0 0 1 0" fovy="45"/>
  </worldbody>
</mujoco>
"""


PROBE = """
import mujoco
ball = "<mujoco><worldbody><light/><geom size='1'/></worldbody></mujoco>"
model = mujoco.MjModel.from_xml_string(ball)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
raise SystemExit(0 if renderer.render().std() > 0 else 1)
"""


@pytest.fixture(scope="session")
def mujoco_gl():
    """MuJoCo's headless GL library, if it draws here; tried in a process of its own."""
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("MuJoCo is not installed")
    if subprocess.run([sys.executable, "-c", PROBE], capture_output=True).returncode:
        pytest.skip(f"MuJoCo cannot draw here with MUJOCO_GL={os.environ['MUJOCO_GL']}")
    return os.environ["MUJOCO_GL"]


@pytest.fixture
def scene(mujoco_gl):
    """Model and data of the scene above."""
    import mujoco

    gc.collect()  # a renderer that is collected frees its numbers in whichever context is current
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture
def draw(scene):
    """``draw(camera, height, width)``: the picture that MuJoCo itself draws."""
    import mujoco

    made = []

    def picture(camera, height=96, width=128):
        renderer = mujoco.Renderer(scene[0], height, width)
        made.append(renderer)
        renderer.update_scene(scene[1], camera)
        return renderer.render()

    yield picture
    for renderer in made:
        renderer.close()


class SceneEnv(gym.Env):
    """An env that keeps ``model`` and ``data`` and shows one or more of their cameras."""

    def __init__(self, model, data, draw, cameras=("front",), turn=lambda image: image):
        self.model, self.data = model, data
        self._draw, self._names, self._turn = draw, cameras, turn
        image = gym.spaces.Box(0, 255, (96, 128, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({f"{name}_image": image for name in cameras})
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        return self._look(), 0.0, False, False, {}

    def _look(self):
        return {f"{name}_image": self._turn(self._draw(name)) for name in self._names}


@pytest.fixture
def scene_env(scene, draw):
    """``scene_env(cameras, turn)``: a :class:`SceneEnv` of the scene above."""
    return lambda *cameras, turn=lambda image: image: SceneEnv(*scene, draw, cameras, turn)
