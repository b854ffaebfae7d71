"""Check our files against the programs they are meant for, in an environment of its own.

``python benchmarks/original_tools.py [--folder DIR]`` makes a virtual environment with zarr 2,
robomimic and minari (zarr 2 cannot live beside the zarr 3 that spie_robo needs), then:

1. exports one store of ours as Diffusion Policy's folder and zip file, UMI's zip file, robomimic's
   HDF5 and Minari's folder;
2. reads them there, with ``zarr.open`` and ``zarr.ZipStore``, ``SequenceDataset``,
   ``MinariDataset`` and ``minari.load_dataset``, and compares every array;
3. writes a replay buffer there with zarr 2, and two data sets with Minari (``DataCollector`` and
   ``create_dataset_from_buffers``), reads them here and compares again.

robomimic asks for simulators and a torch of 2023; it is installed without its requirements, with
what ``robomimic.utils.dataset`` imports beside it, and the CPU build of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TORCH = "torch==2.13.0+cpu"
ROBOMIMIC = "robomimic==0.3.0"
REQUIREMENTS = (
    "zarr<3",
    "numcodecs<0.16",
    "minari[hdf5,create]",
    "pillow",
    "h5py",
    "gymnasium",
    "numpy",
)
ROBOMIMIC_NEEDS = ("tqdm", "termcolor", "psutil", "opencv-python-headless<4.13", "setuptools<81")
TORCH_NEEDS = ("sympy", "networkx", "jinja2", "typing-extensions", "filelock", "fsspec")
LENGTHS = (30, 7, 12)
SIZE = 64
NUMBERS = ("action", "reward", "state", "success")
FOLDER, ZIP, UMI = "replay.zarr", "replay.zarr.zip", "umi.zarr.zip"
MINARI = "minari_home/spie-robo/check-v0"
"""Where ``minari.load_dataset("spie-robo/check-v0")`` looks for it."""


def episode(seed: int, steps: int) -> dict[str, Any]:
    """Numbers and frames, always the same."""
    rng = np.random.default_rng(seed)
    return {
        "action": rng.normal(size=(steps, 7)).astype(np.float32),
        "state": rng.normal(size=(steps, 4)).astype(np.float32),
        "reward": rng.random(steps).astype(np.float32),
        "success": np.arange(steps) == steps - 1,
        "front_rgb": rng.integers(0, 256, (steps, SIZE, SIZE, 3), np.uint8),
        "front_depth": rng.random((steps, SIZE, SIZE)).astype(np.float32),
    }


def make_environment(folder: Path) -> Path:
    """The interpreter of an environment that holds the original programs."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *REQUIREMENTS, *ROBOMIMIC_NEEDS, *TORCH_NEEDS], check=True)
        subprocess.run([*pip, "--no-deps", TORCH, ROBOMIMIC], check=True)
        done.touch()
    return python


def write_ours(folder: Path) -> None:
    """Export one store in every format; its arrays go beside, end to end."""
    from spie_robo.data import EpisodeStore, EpisodeWriter
    from spie_robo.data.formats import export_episodes

    with EpisodeWriter.create(folder / "store.zarr") as writer:
        for i, steps in enumerate(LENGTHS):
            writer.add_episode(episode(i, steps), seed=i)
    store = EpisodeStore.open(folder / "store.zarr")
    np.savez(folder / "ours.npz", **together(store))
    outs = {
        "diffusion-policy": FOLDER,
        "diffusion-policy-zip": ZIP,
        "umi": UMI,
        "robomimic": "ours.hdf5",
        "minari": MINARI,
    }
    for name, out in outs.items():
        (folder / out).parent.mkdir(parents=True, exist_ok=True)
        print(f"wrote {export_episodes(store, folder / out, name, progress=False).path.name}")


def together(episodes: Any) -> dict[str, Any]:
    """The arrays of all episodes, end to end."""
    listed = list(episodes)
    return {key: np.concatenate([rows[key] for rows in listed]) for key in listed[0]}


def same(found: Any, expected: Any, what: str) -> None:
    """Raise unless two arrays are equal in every value and in their type."""
    found = np.asarray(found)
    assert found.dtype == expected.dtype, (what, found.dtype, expected.dtype)
    np.testing.assert_array_equal(found, expected, err_msg=what)


# What follows runs in the other environment.


def zarr_opens_ours(folder: Path, expected: Mapping[str, Any]) -> str:
    """Diffusion Policy's folder and zip file, and UMI's zip file, with zarr 2."""
    import zarr

    assert zarr.__version__.startswith("2."), zarr.__version__
    for name in (FOLDER, ZIP, UMI):
        kind = zarr.DirectoryStore if name == FOLDER else zarr.ZipStore
        store = kind(str(folder / name), **({} if name == FOLDER else {"mode": "r"}))
        root = zarr.group(store)  # as ReplayBuffer opens it
        assert root["meta/episode_ends"][:].tolist() == np.cumsum(LENGTHS).tolist()
        assert set(root["data"].keys()) == set(expected), sorted(root["data"].keys())
        for key, rows in expected.items():
            same(root["data"][key][:], rows, f"{name} {key}")
    return f"zarr {zarr.__version__}: folder, zip and UMI zip equal, {len(expected)} arrays each"


def zarr_writes_theirs(folder: Path) -> None:
    """A replay buffer as Diffusion Policy writes it: zarr 2, Blosc for frames."""
    import numcodecs
    import zarr

    codec = numcodecs.Blosc("zstd", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    rows = together(episode(10 + i, steps) for i, steps in enumerate(LENGTHS))
    root = zarr.group(zarr.DirectoryStore(str(folder / "theirs.zarr")))
    data, meta = root.create_group("data"), root.create_group("meta")
    for key, array in rows.items():
        chunks = (1 if array.ndim == 4 else 16, *array.shape[1:])
        name = "img" if key == "front_rgb" else key
        data.array(name, array, chunks=chunks, compressor=codec)
    meta.array("episode_ends", np.cumsum(LENGTHS), compressor=None)


def robomimic_opens_ours(folder: Path, expected: Mapping[str, Any]) -> str:
    """The HDF5 file, with the class that robomimic trains from."""
    import robomimic
    import robomimic.utils.obs_utils as observations
    from robomimic.utils.dataset import SequenceDataset

    observations.initialize_obs_utils_with_obs_specs(
        {"obs": {"low_dim": ["state"], "rgb": ["front_image"], "depth": ["front_depth"]}}
    )
    dataset = SequenceDataset(
        hdf5_path=str(folder / "ours.hdf5"),
        obs_keys=("state", "front_image", "front_depth"),
        dataset_keys=("actions", "rewards", "dones"),
        frame_stack=1,
        seq_length=1,
        pad_frame_stack=True,
        pad_seq_length=True,
        get_pad_mask=False,
        hdf5_cache_mode=None,
        hdf5_use_swmr=False,
        load_next_obs=False,
    )
    assert len(dataset) == sum(LENGTHS) and dataset.n_demos == len(LENGTHS)
    items = [dataset[i] for i in range(len(dataset))]
    for name, key in {"actions": "action", "rewards": "reward"}.items():
        same(np.concatenate([item[name] for item in items]), expected[key], name)
    for name, key in {"state": "state", "front_image": "front_rgb"}.items():
        same(np.concatenate([item["obs"][name] for item in items]), expected[key], name)
    depth = np.concatenate([item["obs"]["front_depth"] for item in items])
    same(depth[..., 0], expected["front_depth"], "front_depth")
    last = np.flatnonzero(np.concatenate([item["dones"] for item in items]))
    assert last.tolist() == (np.cumsum(LENGTHS) - 1).tolist()
    return f"robomimic {robomimic.__version__}: SequenceDataset gives {len(items)} equal steps"


def minari_opens_ours(folder: Path, expected: Mapping[str, Any]) -> str:
    """The folder, opened by path and by name."""
    import minari

    for dataset in (
        minari.MinariDataset(folder / MINARI / "data"),
        minari.load_dataset("spie-robo/check-v0"),
    ):
        assert (dataset.total_episodes, dataset.total_steps) == (len(LENGTHS), sum(LENGTHS))
        episodes = list(dataset.iterate_episodes())
        assert [len(item) for item in episodes] == list(LENGTHS)
        same(np.concatenate([item.actions for item in episodes]), expected["action"], "actions")
        same(np.concatenate([item.rewards for item in episodes]), expected["reward"], "rewards")
        for key in ("state", "front_rgb", "front_depth"):
            rows = np.concatenate([item.observations[key][:-1] for item in episodes])
            same(rows, expected[key], key)
        assert all(item.terminations[-1] for item in episodes)
    return f"minari {minari.__version__}: by path and by name, {len(LENGTHS)} episodes equal"


def minari_writes_theirs(folder: Path) -> None:
    """One data set of an environment, recorded with DataCollector, and one from buffers."""
    import gymnasium as gym
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env = minari.DataCollector(gym.make("CartPole-v1"))
    for seed in range(2):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(seed)
            over = terminated or truncated
    collected = env.create_dataset(dataset_id="check/collected-v0", algorithm_name="constant")
    box = gym.spaces.Box
    spaces = {"top": box(0, 255, (SIZE, SIZE, 3), np.uint8), "state": box(-9, 9, (4,), np.float32)}
    buffers = []
    for i, steps in enumerate(LENGTHS):
        rows, more = episode(20 + i, steps), episode(40 + i, 1)
        observations = {
            name: np.concatenate([rows[key], more[key]])
            for name, key in {"top": "front_rgb", "state": "state"}.items()
        }
        buffers.append(
            EpisodeBuffer(
                id=i,
                seed=70 + i,
                observations=observations,
                actions=rows["action"],
                rewards=rows["reward"],
                terminations=rows["success"],
                truncations=np.zeros(steps, bool),
            )
        )
    minari.create_dataset_from_buffers(
        "check/buffers-v0",
        buffers,
        action_space=box(-9, 9, (7,), np.float32),
        observation_space=gym.spaces.Dict(spaces),
        jpeg_encoding=False,
    )
    episodes = list(collected.iterate_episodes())
    np.savez(
        folder / "collected.npz",
        action=np.concatenate([item.actions for item in episodes]),
        reward=np.concatenate([item.rewards for item in episodes]),
        state=np.concatenate([item.observations[:-1] for item in episodes]),
        lengths=[len(item) for item in episodes],
    )


INSIDE: dict[str, tuple[Callable[..., str], Callable[[Path], None] | None]] = {
    "zarr": (zarr_opens_ours, zarr_writes_theirs),
    "robomimic": (robomimic_opens_ours, None),
    "minari": (minari_opens_ours, minari_writes_theirs),
}

# And this runs here again.


def check_theirs(folder: Path) -> None:
    """Read what zarr 2 and Minari wrote there and compare."""
    replay = read(folder / "theirs.zarr", "diffusion-policy", LENGTHS)
    rows = together(episode(10 + i, steps) for i, steps in enumerate(LENGTHS))
    for key in (*NUMBERS, "front_depth"):
        same(replay[key], rows[key], key)
    same(replay["img_rgb" if "img_rgb" in replay else "img"], rows["front_rgb"], "img")
    print("We read what zarr 2 wrote: every array equal.")
    home = folder / "minari_home" / "check"
    buffers = read(home / "buffers-v0", "minari", LENGTHS)
    rows = together(episode(20 + i, steps) for i, steps in enumerate(LENGTHS))
    for ours, key in {"top_rgb": "front_rgb"}.items() | {(k, k) for k in NUMBERS[:3]}:
        same(buffers[ours], rows[key], key)
    expected = np.load(folder / "collected.npz")
    collected = read(home / "collected-v0", "minari", expected["lengths"].tolist())
    for key in ("action", "reward", "state"):
        np.testing.assert_array_equal(collected[key], expected[key], err_msg=key)
    print("We read what Minari wrote, from buffers and with DataCollector: every array equal.")


def read(path: Path, name: str, lengths: Any) -> dict[str, Any]:
    """A data set of that format and with episodes of these lengths, end to end."""
    from spie_robo.data.formats import detect_format, open_source

    assert detect_format(path) == name, (path, detect_format(path))
    with open_source(path) as source:
        found = [source.episode_length(i) for i in range(len(source))]
        assert found == list(lengths), (path, found)
        return together(source)


def inside(folder: Path, name: str) -> None:
    """One program's half of the check, in its environment."""
    opens, writes = INSIDE[name]
    print(opens(folder, dict(np.load(folder / "ours.npz"))))
    if writes is not None:
        writes(folder)


def main() -> None:
    """Run the whole check, or one program's half in the other environment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/original_tools"))
    parser.add_argument("--inside", choices=tuple(INSIDE), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    if options.inside:
        inside(folder, options.inside)
        return
    files = folder / "files"
    if files.exists():
        raise SystemExit(f"{files} is there already: delete it, or choose another --folder.")
    files.mkdir(parents=True)
    python = make_environment(folder / "venv")
    write_ours(files)
    variables = os.environ | {"MINARI_DATASETS_PATH": str(files / "minari_home")}
    for name in INSIDE:
        command = [python, __file__, "--folder", files, "--inside", name]
        subprocess.run(command, check=True, env=variables)
    check_theirs(files)
    listed = [python, "-m", "pip", "list", "--format", "json"]
    packages = json.loads(subprocess.run(listed, check=True, capture_output=True).stdout)
    wanted = {"zarr", "numcodecs", "robomimic", "minari", "h5py", "torch", "numpy"}
    print(f"Checked with { {p['name']: p['version'] for p in packages if p['name'] in wanted} }.")


if __name__ == "__main__":
    sys.exit(main())
