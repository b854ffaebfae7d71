"""What is checked before a release, outside continuous integration; it takes minutes.

    python3.11 benchmarks/tools/release_check.py

Builds both distributions (the wheel from the source distribution), lets ``twine`` check them,
installs the wheel alone into a fresh environment with the tested versions, and runs the demo there,
in a folder that is not the repository. Nothing is uploaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints" / f"3.{sys.version_info.minor}.txt"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="release_check_") as folder:
        scratch = Path(folder)
        wheel = build(scratch)
        report = run_demo(wheel, scratch)
        print(f"passed: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB; the demo's report has "
              f"{report.stat().st_size / 1e6:.1f} MB")  # fmt: skip


def build(scratch: Path) -> Path:
    """Both distributions, checked; the path of the wheel."""
    python = environment(scratch / "tools")
    run(python, "-m", "pip", "install", "--quiet", "build", "twine")
    run(python, "-m", "build", "--outdir", scratch / "dist", ROOT)
    files = sorted((scratch / "dist").iterdir())
    run(python, "-m", "twine", "check", "--strict", *files)
    (wheel,) = (file for file in files if file.suffix == ".whl")
    return wheel


def run_demo(wheel: Path, scratch: Path) -> Path:
    """The demo from the wheel alone; the path of its report."""
    python = environment(scratch / "alone")
    run(python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, wheel)
    command = python.with_name("spie-robo")
    run(command, "demo", "--out", scratch / "demo", cwd=scratch)
    run(command, "verify", scratch / "demo" / "episodes.zarr", cwd=scratch)
    return scratch / "demo" / "report.html"


def environment(folder: Path) -> Path:
    """A fresh environment; the path of its interpreter."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command and show it; a failure ends the check."""
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=cwd, check=False)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main()
