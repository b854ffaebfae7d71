#!/usr/bin/env bash
# Make an environment for each Python named, from its constraints file, as `make` does, and try the package
# there: all tests on 3.12, a smoke test (demo, wrapper, convert, doctor) on 3.13 and whatever else is named.
# torch for 3.12 and later comes with CUDA: 8 GB of disk for each.
# Usage: benchmarks/tools/python_versions.sh [3.12=tests] [3.13=smoke] ...
# ENVIRONMENTS is the folder of the environments (default runs/python), PYTEST_FLAGS goes to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
environments=$(realpath -m "${ENVIRONMENTS:-runs/python}")
[ $# -gt 0 ] || set -- 3.12=tests 3.13=smoke

smoke() {
    local venv=$1 out
    out=$(mktemp -d)
    "$venv/bin/spie-robo" demo --out "$out/demo" --episodes 1
    "$venv/bin/spie-robo" info "$out/demo/episodes.zarr"
    "$venv/bin/spie-robo" record --env SpieRobo/Push-v0 --episodes 1 --max-steps 4 --out "$out/raw.zarr"
    "$venv/bin/spie-robo" convert "$out/raw.zarr" "$out/edited.zarr" --editor embedded
    "$venv/bin/spie-robo" verify "$out/edited.zarr"
    "$venv/bin/spie-robo" convert "$out/raw.zarr" "$out/lerobot" --editor embedded --to lerobot
    "$venv/bin/python" examples/wrap_env.py --out "$out/wrapped" --steps 3
    "$venv/bin/python" benchmarks/tools/camera_reading.py
    "$venv/bin/spie-robo" doctor
    rm -rf "$out"
}

for wanted in "$@"; do
    version=${wanted%%=*} what=${wanted##*=}
    venv=$environments/$version
    python=$(command -v "python$version") || { echo "python$version is not on the PATH" >&2; exit 2; }
    echo "== Python $version: $what, $(date +%F)"
    make --no-print-directory "$venv/.tools-installed" install VENV="$venv" PYTHON="$python"
    "$venv/bin/python" -c '
import platform
from importlib.metadata import version
names = "torch transformers diffusers peft accelerate numpy zarr gymnasium opencv-python".split()
print("Python", platform.python_version(), *(f"{name} {version(name)}" for name in names), sep="  ")'
    if [ "$what" = tests ]; then
        OMP_NUM_THREADS=1 "$venv/bin/pytest" -q -p no:cacheprovider ${PYTEST_FLAGS:-}
    else
        smoke "$venv"
    fi
done
