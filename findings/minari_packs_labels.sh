#!/usr/bin/env bash
# Minari 0.5.4 takes label masks for images and keeps them as JPEG, so that other labels come back.
#
# Versions: minari 0.5.4, gymnasium 1.2.3, pillow 11.3.0.
# Behaviour: every uint8 space of bounds 0 and 255, two or three axes and 32 or more a side counts as
# an image (is_image_space), and create_dataset_from_buffers() packs images as JPEG unless it is told
# jpeg_encoding=False. That JPEG is lossy is documented; that a mask of ids is such an image is not.
# Output seen: labels written [0, 7, 12], labels read 0 to 16, 16.7% of the pixels changed.
# Exits with 1 if Minari gives the very labels back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "minari[hdf5,create]==0.5.4" "gymnasium==1.2.3" "pillow==11.3.0"
MINARI_DATASETS_PATH="$folder/sets" "$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

mask = np.zeros((64, 64), np.uint8)
mask[10:40, 8:30], mask[35:60, 25:60] = 7, 12
steps = 3
episode = EpisodeBuffer(
    id=0,
    observations=np.repeat(mask[None], steps + 1, 0),
    actions=np.zeros((steps, 1), np.float32),
    rewards=np.zeros(steps),
    terminations=np.arange(steps) == steps - 1,
    truncations=np.zeros(steps, bool),
)
written = minari.create_dataset_from_buffers(
    "check/labels-v0",
    [episode],
    observation_space=gym.spaces.Box(0, 255, (64, 64), np.uint8),
    action_space=gym.spaces.Box(-1, 1, (1,)),
)
read = minari.load_dataset("check/labels-v0")[0].observations
print(f"minari {version('minari')}, pillow {version('pillow')}")
print(f"labels written: {np.unique(mask).tolist()}")
print(f"labels read:    {np.unique(read).tolist()}")
print(f"pixels that changed: {(read[0] != mask).mean():.1%}")
raise SystemExit(1 if np.array_equal(read[0], mask) else 0)
PY
