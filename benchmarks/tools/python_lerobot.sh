#!/usr/bin/env bash
# Build an environment that holds lerobot[dataset] 0.6.1 and this package, on Python 3.12, and run there what
# concerns both: the plug-in's tests and benchmarks/lerobot_check.py. torch comes with CUDA: 8 GB on disk.
# Usage: benchmarks/tools/python_lerobot.sh [FOLDER=runs/lerobot312] [PYTHON=python3.12]; an environment that is
# there already is used again.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath -m "${1:-runs/lerobot312}")
python=${2:-python3.12}
venv=$folder/venv
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

if [ ! -e "$venv/.complete" ]; then
    "$python" -m venv "$venv"
    pip install --upgrade pip
    pip install -c constraints/3.12.txt setuptools
    # Test tools and formats too. `training` brings what lerobot-train needs.
    pip install -c constraints/3.12.txt --no-build-isolation \
        "lerobot[dataset,training,evaluation]==0.6.1" ".[photoreal,dev]"
    pip install -c constraints/3.12.txt --no-deps panda-gym
    touch "$venv/.complete"
fi
pip install --no-deps --no-build-isolation --force-reinstall . plugins/lerobot_env_spie
rm -rf build plugins/lerobot_env_spie/build

export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
"$venv/bin/python" -V
"$venv/bin/python" -m pip check || echo "(panda-gym asks for the name pybullet, which pybullet-arm64 stands in for)"
"$venv/bin/pytest" -q -p no:cacheprovider tests/plugins
rm -rf "$folder/check"
"$venv/bin/python" benchmarks/lerobot_check.py --folder "$folder/check"
