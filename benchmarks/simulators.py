"""Other people's simulators at pinned versions: is their geometry right, does the guard know it?

Builds an environment for each simulator (a virtual environment under --envs, kept for the next
time), runs benchmarks/simulator_cases.py there, and prints one table: points of known position
projected into the segmentation, the depth of a known plane, which way up pictures lie (told by
their own edges), and what the guard does with raw frames made darker or moved, and with edits of
the embedded editor. Then it exports frames with examples/export_frames.py in an environment
with NumPy below 2, and converts them.

python benchmarks/simulators.py [NAME ...] [--envs DIR] [--base SITE_PACKAGES] [--frames N]
ManiSkill draws with Vulkan: where there is no GPU, Mesa 24.3 or newer (VK_ICD_FILENAMES).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RESULTS, ROOT, machine, report

CASES = Path(__file__).with_name("simulator_cases.py")


@dataclass(frozen=True)
class Environment:
    """What is installed for one simulator.

    Attributes:
        packages: Pinned requirements of the simulator.
        beside_us: Whether this package is installed there too.
        no_dependencies: Install just these: what they pin besides does not hold them back.
    """

    packages: tuple[str, ...]
    beside_us: bool = True
    no_dependencies: bool = False


ENVIRONMENTS = {
    "own": Environment(()),
    "fetch": Environment(
        ("gymnasium-robotics==1.4.2", "pettingzoo>=1.25", "mujoco==3.8.1"), True, True
    ),
    "metaworld": Environment(("metaworld==3.1.1", "mujoco==3.3.0"), True, True),
    # mink asks for NumPy below 2 and is not needed for these robots.
    "robosuite": Environment(
        (
            *("robosuite==1.5.2", "mujoco==3.8.1", "mink==0.0.5", "qpsolvers==4.13.0"),
            *("quadprog==0.1.14", "daqp==0.11.0", "pynput==1.8.2", "termcolor==3.3.0"),
            *("numba==0.68.1", "llvmlite==0.50.0"),
        ),
        True,
        True,
    ),
    "aloha": Environment(("gym-aloha==0.1.5", "mujoco==3.8.1")),
    "panda_gym": Environment(("panda-gym==3.0.7",)),
    "maniskill": Environment(("mani_skill==3.0.1",)),
    "export": Environment(
        ("robosuite==1.5.2", "mujoco==3.8.1", "numpy<2", "zarr>=3.1,<3.2"), beside_us=False
    ),
}
"""Not here: LIBERO (hf-libero 0.1.4 has no assets in it and downloads them from the Hugging Face
Hub) and Isaac Lab (Python 3.12 and an NVIDIA GPU). Their adapters are tested with stand-ins."""


def python_of(name: str, envs: Path, base: Path | None) -> Path:
    """The interpreter of an environment, which is built if it is not there."""
    folder, wanted = envs / name, ENVIRONMENTS[name]
    if not wanted.packages:
        return Path(sys.executable)
    python = folder / "bin" / "python"
    marker = folder / "built.json"
    if marker.is_file() and json.loads(marker.read_text()) == list(wanted.packages):
        return python
    print(f"building {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    if wanted.beside_us and base is None:
        subprocess.run([*pip, "-e", str(ROOT)], check=True)
    elif wanted.beside_us and base is not None:
        _share(folder, base, any(p.startswith("mujoco") for p in wanted.packages))
    if wanted.packages:
        only = ["--no-deps"] if wanted.no_dependencies else []
        subprocess.run([*pip, *only, *wanted.packages], check=True)
    marker.write_text(json.dumps(list(wanted.packages)))
    return python


def _share(folder: Path, base: Path, own_mujoco: bool) -> None:
    """Let an environment see the packages of another, but not MuJoCo if it has its own."""
    (site,) = folder.glob("lib/python*/site-packages")
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    for package in base.iterdir():
        link = shared / package.name
        hidden = own_mujoco and package.name.startswith("mujoco")
        if not hidden and not link.exists():
            link.symlink_to(package)
    (site / "shared.pth").write_text(f"{shared}\n{ROOT}\n")


def run_simulator(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one simulator; an error as text where it cannot run here."""
    python = python_of(name, args.envs, args.base)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [str(python), str(CASES), name, "--out", str(out)]
        command += ["--frames", str(args.frames), "--edits", str(args.edits)]
        command += ["--seed", str(args.seed)]
        if args.pictures is not None:
            args.pictures.mkdir(parents=True, exist_ok=True)
            command += ["--pictures", str(args.pictures / f"{name}.png")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)} if name != "own" else None
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        if run.returncode or not out.is_file():
            return {"error": (run.stderr.strip().splitlines() or ["no output"])[-1]}
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def run_export(args: argparse.Namespace) -> dict[str, Any]:
    """Frames out of an environment with NumPy below 2, and through ``convert``."""
    python = python_of("export", args.envs, args.base)
    numpy = [str(python), "-c", "import numpy; print(numpy.__version__)"]
    version = subprocess.run(numpy, capture_output=True, text=True, check=True).stdout.strip()
    environment = {"MUJOCO_GL": "egl", **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        exported, converted = Path(folder, "lift.zarr"), Path(folder, "lab.zarr")
        script = ROOT / "examples" / "export_frames.py"
        subprocess.run(
            [str(python), str(script), str(exported)],
            check=True,
            env=environment,
            capture_output=True,
        )
        command = [sys.executable, "-m", "spie_robo.cli", "convert", str(exported), str(converted)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            return {"numpy": version, "error": run.stderr.strip().splitlines()[-1]}
        from spie_robo.data import EpisodeStore

        store = EpisodeStore.open(converted)
        camera = store.metadata.cameras["agentview"]
        return {
            "numpy": version,
            "frames": store.n_steps,
            "geometry": store.metadata.provenance.get("geometry"),
            "names": len(camera.names),
            "intrinsics": camera.intrinsics is not None,
            "edited": int(
                sum(store[i]["realism_agentview_edited"].sum() for i in range(len(store)))
            ),
        }


def table_of(results: dict[str, Any]) -> str:
    """Two tables: geometry a camera, and the guard a simulator."""
    lines = [
        "| simulator, task / camera | lies | told by edges | points hit | plane off by, worst |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        for case, row in found.get("cases", {}).items():
            plane = row["plane_mm_worst"]
            plane_text = "not seen" if plane is None else f"{plane:.1f} mm"
            lines.append(
                f"| {name}, {case} | {', '.join(row['orientation'])} | "
                f"{row['orientation_right']} of {row['pictures']} | "
                f"{row['points_hit']} of {row['points']} | {plane_text} |"
            )
    names = list(next((f["controls"] for f in results.values() if "controls" in f), {}))
    lines += ["", f"| guard accepts | {' | '.join(names)} | embedded edits |"]
    lines.append(f"| --- | {' | '.join('---' for _ in names)} | --- |")
    for name, found in results.items():
        if "error" in found:
            lines.append(f"| {name} | could not run: {found['error']} |")
        if "controls" in found:
            cells = [f"{c['accepted']} of {c['of']}" for c in found["controls"].values()]
            edited = found["edits"]
            last = "-" if edited is None else f"{edited['accepted']} of {edited['of']}"
            lines.append(f"| {name} | {' | '.join(cells)} | {last} |")
    guides = {name: found["guide"] for name, found in results.items() if "guide" in found}
    lines += ["", *(f"guide of {name}: {said}" for name, said in guides.items())]
    if "export" in results:
        lines += ["", f"export and convert: {results['export']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(ENVIRONMENTS))
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "spie_robo_envs")
    parser.add_argument("--base", type=Path, default=None, help="site-packages to share")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--edits", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=None)
    args = parser.parse_args()
    # What is not run now keeps its figures.
    kept = RESULTS / "simulators.json"
    results = json.loads(kept.read_text())["results"] if kept.is_file() else {}
    for name in args.names or list(ENVIRONMENTS):
        print(f"{name} ...", flush=True)
        found = run_export(args) if name == "export" else run_simulator(name, args)
        results[name] = {**found, "commit": machine()["commit"]}
    report("simulators", args.seed, results, table_of(results))


if __name__ == "__main__":
    main()
