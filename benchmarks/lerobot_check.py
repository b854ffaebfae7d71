"""Check our LeRobot v3 files against LeRobot itself, in an environment of its own.

``python benchmarks/lerobot_check.py [--folder DIR]`` makes a virtual environment (lerobot pins
versions that cannot live beside ours), then:

1. writes a data set with spie_robo, opens it there with ``LeRobotDataset`` and compares every
   number, task and frame with what our reader gives;
2. writes a data set there with ``LeRobotDataset.create``, reads it here and compares again.

lerobot 0.4.4 asks for torch < 2.11, whose wheels on PyPI bring gigabytes of CUDA. So lerobot is
installed without its requirements, beside the CPU build of torch that this machine offers and the
packages that its data sets need. torchvision, of which only the image transforms are used, may be
a CUDA build whose operators do not load: their registration is skipped. torchcodec, which decodes
the videos, needs FFmpeg's libraries: those of the system, else those in PyAV's wheel.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

LEROBOT = "lerobot==0.4.4"
TORCH = ("torch==2.13.0+cpu", "torchcodec==0.13.0", "torchvision==0.28.0")
REQUIREMENTS = (
    "datasets>=4,<5",
    "huggingface-hub>=0.34.2,<0.36",
    "av>=15,<16",
    "einops",
    "jsonlines",
    "packaging<26",
    "draccus==0.10.0",
    "termcolor",
    "deepdiff<9",
    "imageio[ffmpeg]",
    "safetensors",
    "gymnasium",
    "opencv-python-headless<4.13",
    "diffusers<0.36",
    "accelerate",
    "numpy",
    "pillow",
)
CAMERAS = ("front", "wrist")
LARGEST_DIFFERENCE = 3
"""Of 255, between two decoders that convert the same YCbCr to RGB."""


def frames(rng: np.random.Generator, steps: int, height: int, width: int) -> Any:
    """Shaded frames with a square that moves."""
    y, x = np.mgrid[:height, :width]
    shades = [128 + 100 * np.sin(x / 9 + y / 13 + p) for p in rng.random(3) * 6]
    result = np.repeat(np.stack(shades, -1)[None], steps, 0)
    for t in range(steps):
        result[t, 8:20, 4 + t % 20 : 14 + t % 20] = [220, 40, 40]
    return result.astype(np.uint8)


def make_environment(folder: Path) -> Path:
    """The interpreter of an environment that holds lerobot."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
        # In this order and alone: the others would ask for another torch.
        subprocess.run([*pip, "--no-deps", *TORCH, LEROBOT], check=True)
        subprocess.run([*pip, "sympy", "networkx", "jinja2", "typing-extensions"], check=True)
    return python


def environment(folder: Path) -> dict[str, str]:
    """Variables with which torchcodec finds FFmpeg's libraries.

    Raises:
        SystemExit: If there are none on this machine.
    """
    if ctypes.util.find_library("avutil"):
        return dict(os.environ)
    links = folder / "ffmpeg"
    links.mkdir(exist_ok=True)
    wheel = next((folder / "venv").glob("lib/*/site-packages/av.libs"), folder / "absent")
    for file in wheel.glob("lib*"):
        # The wheel's libavutil-a63ffd27.so.59.39.100 is what others call libavutil.so.59.
        name = re.fullmatch(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+(\.so\.\d+)[.\d]*", file.name)
        if name and not (links / "".join(name.groups())).exists():
            (links / "".join(name.groups())).symlink_to(file)
    if not list(links.glob("libavutil*")):
        raise SystemExit(
            f"FFmpeg's libraries (libavutil and others) are neither on this machine nor in {wheel}."
            " torchcodec cannot decode video without them. Install FFmpeg 4 to 8 and run again."
        )
    print("FFmpeg is not installed: torchcodec is lent the libraries of PyAV's wheel.")
    return os.environ | {"LD_LIBRARY_PATH": f"{links}:{wheel}"}


def write_ours(folder: Path) -> Path:
    """Export a store with spie_robo; what our reader gives goes beside it."""
    from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
    from spie_robo.data.formats import export_episodes, open_source
    from spie_robo.data.formats.source_record import SourceRecord, with_source

    record = SourceRecord("example", tasks=("push the cube", "lift it"), fps=20.0)
    path = folder / "store.zarr"
    with EpisodeWriter.create(path, with_source(StoreMetadata(), record)) as writer:
        for i, steps in enumerate((30, 7, 45)):
            rng = np.random.default_rng(i)
            writer.add_episode(
                {
                    "action": rng.normal(size=(steps, 7)).astype(np.float32),
                    "state": rng.normal(size=(steps, 4)).astype(np.float32),
                    "reward": rng.random(steps).astype(np.float32),
                    "success": np.arange(steps) == steps - 1,
                    "task_index": np.full(steps, i % 2),
                    "front_rgb": frames(rng, steps, 96, 128),
                    "front_depth": rng.random((steps, 12, 16)).astype(np.float32),
                    "wrist_rgb": frames(rng, steps, 64, 64),
                },
                seed=i,
            )
    out = folder / "ours"
    print(export_episodes(EpisodeStore.open(path), out, "lerobot", progress=False))
    with open_source(out) as source:
        whole = {k: np.concatenate([e[k] for e in source]) for k in source.keys}
    np.savez(folder / "ours.npz", **whole)
    return out


def check_ours_inside(folder: Path) -> None:
    """In lerobot's environment: open what spie_robo wrote and compare."""
    dataset = open_dataset(folder / "ours")
    expected = np.load(folder / "ours.npz")
    steps = len(expected["action"])
    assert len(dataset) == steps, (len(dataset), steps)
    assert dataset.num_episodes == 3
    largest = 0.0
    for t in range(steps):
        item = dataset[t]
        for name, key in {
            "action": "action",
            "observation.state": "state",
            "next.reward": "reward",
            "next.success": "success",
            "front_depth": "front_depth",
        }.items():
            np.testing.assert_array_equal(np.asarray(item[name]), expected[key][t], err_msg=name)
        assert item["task"] == ("push the cube", "lift it")[int(expected["task_index"][t])]
        for camera in CAMERAS:
            image = np.rint(np.asarray(item[f"observation.images.{camera}"]) * 255)
            difference = np.abs(np.moveaxis(image, 0, -1) - expected[f"{camera}_rgb"][t])
            largest = max(largest, float(difference.max()))
    assert largest <= LARGEST_DIFFERENCE, largest
    print(f"LeRobotDataset opens ours: {steps} steps equal, frames within {largest:.0f} of 255.")


def write_theirs_inside(folder: Path) -> None:
    """In lerobot's environment: write a data set with its own recorder."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["height", "width", "channels"]
    features = {
        "action": {"dtype": "float32", "shape": (7,), "names": None},
        "observation.state": {"dtype": "float32", "shape": (4,), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.images.front": {"dtype": "video", "shape": (96, 128, 3), "names": names},
        "observation.images.wrist": {"dtype": "image", "shape": (64, 64, 3), "names": names},
    }
    dataset = LeRobotDataset.create(
        "local/theirs", fps=20, root=folder / "theirs", features=features, robot_type="panda"
    )
    for i, steps in enumerate((12, 25)):
        rng = np.random.default_rng(10 + i)
        images = {"front": frames(rng, steps, 96, 128), "wrist": frames(rng, steps, 64, 64)}
        for t in range(steps):
            step = {
                "action": rng.normal(size=7).astype(np.float32),
                "observation.state": rng.normal(size=4).astype(np.float32),
                "next.reward": np.array([t / steps], np.float32),
                "task": f"task {i}",
            }
            dataset.add_frame(step | {f"observation.images.{c}": images[c][t] for c in CAMERAS})
        dataset.save_episode()
    dataset.finalize()
    dataset = open_dataset(folder / "theirs")
    items = [dataset[t] for t in range(len(dataset))]
    kept = {
        name: np.stack([np.asarray(item[name]) for item in items])
        for name in features
        if not name.startswith("observation.images")
    }
    for camera in CAMERAS:
        images = [np.asarray(item[f"observation.images.{camera}"]) for item in items]
        kept[camera] = np.rint(np.moveaxis(np.stack(images), 1, -1) * 255).astype(np.uint8)
    np.savez(folder / "theirs.npz", tasks=[item["task"] for item in items], **kept)


def check_theirs(folder: Path) -> None:
    """Read what LeRobot wrote and compare."""
    from spie_robo.data.formats import detect_format, open_source
    from spie_robo.data.formats.source_record import SourceRecord

    expected = np.load(folder / "theirs.npz")
    assert detect_format(folder / "theirs") == "lerobot"
    with open_source(folder / "theirs") as source:
        whole = {k: np.concatenate([e[k] for e in source]) for k in source.keys}
        lengths = [source.episode_length(i) for i in range(len(source))]
        record = SourceRecord.of(source.metadata)
    assert record is not None and record.fps == 20 and lengths == [12, 25]
    np.testing.assert_array_equal(whole["action"], expected["action"])
    np.testing.assert_array_equal(whole["state"], expected["observation.state"])
    np.testing.assert_array_equal(whole["reward"], expected["next.reward"].reshape(-1))
    tasks = [record.tasks[n] for n in whole["task_index"]]
    assert tasks == expected["tasks"].tolist()
    np.testing.assert_array_equal(whole["wrist_rgb"], expected["wrist"])
    difference = np.abs(whole["front_rgb"].astype(int) - expected["front"])
    assert difference.max() <= LARGEST_DIFFERENCE, difference.max()
    print(
        f"We read theirs: {len(tasks)} steps equal, PNG frames equal, AV1 video within "
        f"{difference.max()} of 255."
    )


def open_dataset(path: Path) -> Any:
    """Open a local data set with LeRobot, without asking the Hub for anything."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/check", root=path)


def skip_torchvision_operators() -> None:
    """A CUDA build of torchvision has none on a machine without CUDA; transforms need none."""
    from types import ModuleType

    sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")


def main() -> None:
    """Run the whole check, or one of its halves in the other environment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/lerobot_check"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    if arguments.inside:
        skip_torchvision_operators()
        check_ours_inside(folder)
        write_theirs_inside(folder)
        return
    for name in ("store.zarr", "ours", "theirs"):
        if (folder / name).exists():
            raise SystemExit(f"{folder / name} is there already: choose another --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    python = make_environment(folder / "venv")
    variables = environment(folder)
    write_ours(folder)
    command = [python, __file__, "--folder", folder, "--inside"]
    subprocess.run(command, check=True, env=variables)
    check_theirs(folder)
    versions = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
    )
    wanted = {"lerobot", "torch", "torchcodec", "datasets", "av"}
    found = {p["name"]: p["version"] for p in json.loads(versions.stdout) if p["name"] in wanted}
    print(f"Checked with {found}.")


if __name__ == "__main__":
    main()
