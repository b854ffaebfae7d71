#!/usr/bin/env bash
# Stores written with the zarr of one Python are read with that of another: 3.1.6, the newest on Python 3.11, and
# 3.4.2, the newest from 3.12 on. Every array is compared, the checksums are checked, and an episode is appended.
# Usage: benchmarks/tools/zarr_both_ways.sh PYTHON_OF_ENVIRONMENT_A PYTHON_OF_ENVIRONMENT_B
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > store.py <<'PY'
import sys
import numpy as np
import zarr
from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata

action, path, zarr_format = sys.argv[1], sys.argv[2], int(sys.argv[3])

def episode(seed):
    rng = np.random.default_rng(seed)
    return {
        "action": rng.normal(size=(5 + seed, 4)).astype(np.float32),
        "success": rng.random(5 + seed) < 0.5,
        "front_rgb": rng.integers(0, 256, (5 + seed, 32, 32, 3), np.uint8),
        "front_depth": rng.random((5 + seed, 32, 32), np.float32),
    }

def write(writer, seeds):
    for seed in seeds:
        writer.add_episode(episode(seed), seed=seed)

if action == "write":
    with EpisodeWriter.create(path, StoreMetadata(), zarr_format=zarr_format) as writer:
        write(writer, (0, 1))
else:
    with EpisodeWriter.open(path) as writer:
        write(writer, (2,))
    store = EpisodeStore.open(path)
    assert len(store) == 3
    for seed, found in enumerate(store):
        for key, expected in episode(seed).items():
            np.testing.assert_array_equal(found[key], expected, err_msg=key)
print(f"{action} with zarr {zarr.__version__}, format {zarr_format}: ok")
PY
for format in 3 2; do
    for pair in "$1 $2" "$2 $1"; do
        read -r writer reader <<<"$pair"
        rm -rf store.zarr
        "$writer" store.py write store.zarr "$format"
        "$reader" store.py read store.zarr "$format"
        "$reader" -m spie_robo.cli verify store.zarr
    done
done
