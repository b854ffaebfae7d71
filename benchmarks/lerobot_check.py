"""Check our LeRobot v3 files against LeRobot itself, in one environment that holds both.

``python benchmarks/lerobot_check.py [--folder DIR]`` in the environment that
``benchmarks/tools/python_lerobot.sh`` builds (Python 3.12, ``lerobot[dataset]==0.6.1``):

1. writes a data set with spie_robo, opens it with ``LeRobotDataset`` and compares every number,
   task and frame with what our reader gives;
2. writes a data set with ``LeRobotDataset.create``, reads it here and compares again;
3. records episodes, converts them to a LeRobot data set with edited frames, and lets
   ``lerobot-train`` train a tiny policy on it for a few steps and evaluate that on edited frames
   (``--env.type=realistic_spie_robo``), all by command line.

torchcodec, which decodes the videos, needs FFmpeg's libraries; where there are none LeRobot takes
PyAV, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

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


def check_ours(folder: Path) -> None:
    """Open with LeRobot what spie_robo wrote and compare."""
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


def write_theirs(folder: Path) -> None:
    """Write a data set with LeRobot's own recorder."""
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


def run(command: str, *words: str | Path) -> str:
    """What a command of this environment printed; it ends well or the check fails."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    line = [str(Path(sys.executable).parent / command), *map(str, words)]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


def train(folder: Path) -> None:
    """Record, convert, train and evaluate."""
    store, converted = folder / "reach.zarr", folder / "converted"
    run(
        "spie-robo",
        "record",
        "--env=SpieRobo/Reach-v0",
        "--episodes=2",
        "--image-size=64",
        "--out",
        store,
    )
    run("spie-robo", "convert", store, converted, "--editor=embedded", "--to=lerobot")
    small = "dim_model=16 n_heads=2 dim_feedforward=16 n_encoder_layers=1 n_vae_encoder_layers=1"
    # Without this the policy takes every camera of the data set, the raw ones beside the edits too.
    seen = {
        **{f"observation.images.{c}": {"type": "VISUAL", "shape": [3, 64, 64]} for c in CAMERAS},
        "observation.state": {"type": "STATE", "shape": [14]},
    }
    words = [
        *("--dataset.repo_id=local/check", f"--dataset.root={converted}"),
        *("--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false"),
        *("--policy.pretrained_backbone_weights=null", "--policy.chunk_size=4"),
        *("--policy.n_action_steps=2", "--policy.latent_dim=4"),
        f"--policy.input_features={json.dumps(seen)}",
        *(f"--policy.{word}" for word in small.split()),
        *("--steps=4", "--batch_size=2", "--num_workers=0", "--log_freq=1", "--env_eval_freq=4"),
        *("--save_checkpoint=false", "--wandb.enable=false"),
        *("--env.type=realistic_spie_robo", "--env.task=Reach-v0", "--env.episode_length=3"),
        *("--env.width=64", "--env.height=64", f"--env.realism.preview={folder / 'preview'}"),
        *("--eval.n_episodes=1", "--eval.batch_size=1", f"--output_dir={folder / 'train'}"),
    ]
    output = run("lerobot-train", *words)
    told = [line for line in output.splitlines() if "frames edited" in line]
    assert told and list((folder / "preview").glob("*.png")), output[-3000:]
    edited = told[-1].partition("spie_robo/realism: ")[2]
    print(f"lerobot-train: 4 steps on a converted data set, then {edited}.")


def main() -> None:
    """Run the whole check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/lerobot_check"))
    parser.add_argument("--no-train", action="store_true", help="leave lerobot-train out")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    for name in ("store.zarr", "ours", "theirs", "reach.zarr", "converted", "train"):
        if (folder / name).exists():
            raise SystemExit(f"{folder / name} is there already: choose another --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    packages = ("lerobot", "torch", "datasets", "av", "zarr", "numpy", "transformers")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"{time.strftime('%F')}, Python {platform.python_version()}, {versions}")
    write_ours(folder)
    check_ours(folder)
    write_theirs(folder)
    check_theirs(folder)
    if not arguments.no_train:
        train(folder)


if __name__ == "__main__":
    main()
