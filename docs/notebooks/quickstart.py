# %% [markdown]
# # Notebook: quickstart
#
# From a simulator's frames to edited ones, on two CPU cores. Install the package first: `pip
# install -c constraints/3.11.txt .` in a clone.

# %%
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

from spie_robo import (
    ConvertCommand,
    EpisodeStore,
    RealismWrapper,
    RecordCommand,
    ReportCommand,
    convert,
    record,
    report,
)

OUT = Path(os.environ.get("NOTEBOOK_OUT", "quickstart"))
EPISODES = int(os.environ.get("NOTEBOOK_EPISODES", "3"))
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Frames that are edited as they come
#
# The wrapper keeps the observation space. `info["raw"]` has the simulator's frames,
# `info["realism"]` what became of each.

# %%
env = RealismWrapper(gym.make("SpieRobo/Push-v0"), editor="embedded")
observation, info = env.reset(seed=0)
assert observation in env.observation_space
for camera, edit in info["realism"].items():
    print(camera, "edited" if edit.edited else "rejected, the raw frame was returned")
pictures = np.hstack([info["raw"]["front"], observation["front"]])
Image.fromarray(pictures).save(OUT / "before_after.png")
env.close()

# %% [markdown]
# ## Episodes that were recorded before
#
# Demonstrations of a scripted expert, as the simulator draws them; then the same episodes,
# edited. Both verbs take the settings of the
# command of the same name and return a record of what was done.

# %%
raw, edited = OUT / "sim.zarr", OUT / "real.zarr"
recorded = record(RecordCommand(env="SpieRobo/Push-v0", episodes=EPISODES, out=raw, max_steps=20))
print(recorded)

# %%
summary = convert(ConvertCommand(source=raw, out=edited))
print(summary)

# %% [markdown]
# Everything but the cameras is the same, and the raw frames are still there.

# %%
before, after = EpisodeStore.open(raw)[0], EpisodeStore.open(edited)[0]
assert np.array_equal(before["action"], after["action"])
assert np.array_equal(before["front_rgb"], after["front_raw"])
print({key: (array.dtype.name, array.shape) for key, array in after.items()})

# %% [markdown]
# ## A page to look at
#
# It opens without a network: a slider for every frame, and what the check of each edit found.

# %%
page = report(ReportCommand(store=edited, out=OUT / "report.html"))
print(page)
