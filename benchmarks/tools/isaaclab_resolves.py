"""Ask pip whether this package can be installed beside Isaac Lab.

``python3.12 benchmarks/tools/isaaclab_resolves.py [--requirement isaaclab==3.0.0]``

pip resolves both together in an empty environment and reports what it would install. Of packages
whose index has their metadata apart, which is nearly all of them, nothing is downloaded. Nothing is
installed either, so this says that the versions fit, not that Isaac Lab runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = (
    "isaaclab",
    "spie-robo",
    "torch",
    "transformers",
    "numpy",
    "gymnasium",
    "diffusers",
    "peft",
)
SHOWN += ("opencv-python", "pybullet-arm64", "zarr", "huggingface-hub")


def main() -> None:
    """Resolve, print the versions, and exit with 1 if they do not fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requirement", default="isaaclab==3.0.0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        pip = [str(folder / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        command = [*pip, "install", "--dry-run", "--quiet", "--report", str(folder / "report.json")]
        start = time.perf_counter()
        words = [*command, str(ROOT), arguments.requirement]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        shutil.rmtree(ROOT / "build", ignore_errors=True)  # a later wheel would take files from it
        print(
            f"{time.strftime('%F')}, Python {platform.python_version()}, "
            f"{pip_version(pip)}, {time.perf_counter() - start:.0f} s"
        )
        if done.returncode:
            sys.exit(
                f"{arguments.requirement} and spie-robo do not resolve:\n{done.stderr[-3000:]}"
            )
        items = json.loads((folder / "report.json").read_text())["install"]
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in items}
    versions = {key.replace("_", "-"): version for key, version in versions.items()}
    print(f"{arguments.requirement} and spie-robo resolve: {len(versions)} packages")
    for key in SHOWN:
        print(f"  {key:16} {versions.get(key, 'not among them')}")
    wheels = sorted(key for key in versions if key.startswith("opencv"))
    print(f"  OpenCV's wheels: {', '.join(wheels)}")


def pip_version(pip: list[str]) -> str:
    """Name and version of pip, for the first line."""
    answer = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=True).stdout
    return " ".join(answer.split()[:2])


if __name__ == "__main__":
    main()
