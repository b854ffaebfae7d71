# %% [markdown]
# # Notebook: your simulator
#
# A simulator of a few lines, so that each part can be seen: a camera, a table, a wall and a
# cube, drawn by tracing one ray for each pixel.
# With a real simulator the renderer gives the image, the depth and the segmentation;
# `examples/mujoco_env.py` does it with MuJoCo.

# %%
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

from spie_robo import Geometry, RealismWrapper

OUT = Path(os.environ.get("NOTEBOOK_OUT", "your_simulator"))
STEPS = int(os.environ.get("NOTEBOOK_STEPS", "5"))
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The environment
#
# The camera stands 0.7 m above the table and looks down at it. Each ray advances by 1 m along
# the optical axis for every unit of its
# parameter, so the parameter of the nearest hit **is** the depth that the guard wants: metres
# along the axis, not along the ray.

# %%
TABLE, WALL, CUBE = 1, 2, 3
COLORS = {TABLE: (170, 165, 160), WALL: (200, 200, 205), CUBE: (200, 40, 40)}
SIDE, HALF_CUBE = 128, 0.06  # pixels, metres
CAMERA, FORWARD, DOWN = (
    np.array([0, -0.6, 0.7]),
    np.array([0, 0.8, -0.6]),
    np.array([0, -0.6, -0.8]),
)
x, y = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE * 1.2 - 0.6] * 2)
RAYS = FORWARD + x[..., None] * np.array([1, 0, 0]) + y[..., None] * DOWN


class PushOnTable(gym.Env):
    """A cube that slides over a table; the action is its speed in metres a step."""

    observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.1, 0.1, 2)
        return self.look()

    def step(self, action):
        self.place = np.clip(self.place + 0.05 * np.asarray(action), -0.2, 0.2)
        image, info = self.look()
        return image, float(self.place[0]), False, False, info

    def look(self):
        # Where each ray meets the table (z = 0), the wall (y = 0.7) and the cube: the nearest wins.
        with np.errstate(divide="ignore"):
            table = np.where(RAYS[..., 2] < 0, -CAMERA[2] / RAYS[..., 2], np.inf)
            wall = (0.7 - CAMERA[1]) / RAYS[..., 1]
            centre = np.array([*self.place, HALF_CUBE])
            sides = [(centre + sign * HALF_CUBE - CAMERA) / RAYS for sign in (-1, 1)]
        enter, leave = np.minimum(*sides), np.maximum(*sides)
        cube = np.where(enter.max(-1) < leave.min(-1), enter.max(-1), np.inf)
        distances = np.stack([table, wall, cube])
        ids = np.array([TABLE, WALL, CUBE], np.int32)[distances.argmin(0)]
        depth = distances.min(0).astype(np.float32)

        # Colours; the cube's faces are lit each in its own way.
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        for number, color in COLORS.items():
            image[ids == number] = color
        shade = 1 - 0.2 * (2 - enter.argmax(-1))  # the top is brightest
        image[ids == CUBE] = (image[ids == CUBE] * shade[ids == CUBE, None]).astype(np.uint8)
        names = {TABLE: "table", WALL: "wall", CUBE: "cube"}
        return image, {"geometry": {"camera": Geometry(depth, ids, names)}}


# %% [markdown]
# ## Check it before anything is edited
#
# Gymnasium has a checker. And look at the numbers: depth in metres, along the optical axis, and
# a name for every id.

# %%
from gymnasium.utils.env_checker import check_env

plain = PushOnTable()
check_env(plain, skip_render_check=True)
_, info = plain.reset(seed=0)
geometry = info["geometry"]["camera"]
for number, name in geometry.names.items():
    there = geometry.segmentation == number
    print(f"{name}: {there.sum()} pixels, depth {geometry.depth[there].min():.2f} m")

# %% [markdown]
# ## Wrap it
#
# The guard holds each edit to this depth and segmentation. `source` says so: `simulator`, where
# it would be `estimate` without them.

# %%
env = RealismWrapper(plain, editor="embedded")
observation, info = env.reset(seed=0)
assert info["realism"]["camera"].verdict.source == "simulator"

accepted = 0
for _ in range(STEPS):
    observation, reward, terminated, truncated, info = env.step(np.array([0.5, 0.2], np.float32))
    assert observation in env.observation_space
    accepted += info["realism"]["camera"].edited
print(f"The guard accepted {accepted} of {STEPS} edits.")
Image.fromarray(np.hstack([info["raw"]["camera"], observation])).save(OUT / "cube.png")
