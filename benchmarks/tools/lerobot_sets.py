"""Check what we read and write against LeRobot 0.6 itself, in one environment with this package.

``python benchmarks/tools/lerobot_sets.py [--folder DIR] [--seed 0]`` needs spie_robo and
``lerobot[dataset]`` 0.6.1, so Python 3.12. With real ``LeRobotDataset`` objects it

1. records depth as video and as pictures, and compares our metres with LeRobot's own;
2. changes tasks with ``modify_tasks`` and appends with ``resume`` in a set of ours, and reads both;
3. removes the columns that an edited copy has more, with ``remove_feature``, one of two axes too;
4. merges the raw set and that copy with ``merge_datasets``, opens the result and counts;
5. opens a set with several looks an episode, and reads its provenance columns.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.dataset_tools import merge_datasets, modify_tasks, remove_feature
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from spie_robo.data import ConversionConfig, EpisodeStore, EpisodeWriter, convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.types import EditResult, Frame, References

LENGTHS = (12, 9)
SIZE = (64, 96)
FPS = 10
FRONT, DEPTH = "observation.images.front", "observation.images.front_depth"
NAMES = ["height", "width", "channels"]


def colours(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Shaded frames that move."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    shades = np.stack([128 + 100 * np.sin(x / 9 + y / 13 + p) for p in rng.random(3) * 6], -1)
    return np.stack([np.roll(shades, t, 1) for t in range(steps)]).astype(np.uint8)


def recorded(root: Path, seed: int, *, videos: bool, unit: str = "mm") -> LeRobotDataset:
    """A set with a camera and its depth, recorded by LeRobot itself."""
    visual = "video" if videos else "image"
    features: dict[str, Any] = {
        "action": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "grip"]},
        "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
        FRONT: {"dtype": visual, "shape": (*SIZE, 3), "names": NAMES},
        DEPTH: {
            "dtype": visual,
            "shape": (*SIZE, 1),
            "names": NAMES,
            "info": {"is_depth_map": True},
        },
    }
    dataset = LeRobotDataset.create(
        "local/set", FPS, features, root, robot_type="panda", use_videos=videos
    )
    rng = np.random.default_rng(seed)
    for episode, steps in enumerate(LENGTHS):
        frames = colours(rng, steps)
        depth = rng.uniform(0.3, 3, (steps, *SIZE, 1)).astype(np.float32)
        depth[:, 0, 0], depth[:, 1, 1] = 0, 12
        if unit == "mm":
            depth = (depth * 1000).astype(np.uint16)
        for t in range(steps):
            dataset.add_frame(
                {
                    "action": rng.normal(size=4).astype(np.float32),
                    "observation.state": rng.normal(size=3).astype(np.float32),
                    FRONT: frames[t],
                    DEPTH: depth[t],
                    "task": f"task {episode}",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return opened(root)


def opened(root: Path) -> LeRobotDataset:
    """A local set, with depth in metres; the Hub is not asked for anything."""
    return LeRobotDataset("local/set", root=root, depth_output_unit="m")


def check_depth(folder: Path, seed: int) -> None:
    """Our metres are LeRobot's, but for roundings of float32."""
    for name, videos, unit in (
        ("videos", True, "mm"),
        ("metres", True, "m"),
        ("pictures", False, "mm"),
        ("float_pictures", False, "m"),
    ):
        theirs = recorded(folder / name, seed, videos=videos, unit=unit)
        items = [theirs[i] for i in range(len(theirs))]
        truth = np.stack([np.asarray(item[DEPTH])[0] for item in items])
        front = np.stack([np.rint(np.asarray(item[FRONT]) * 255) for item in items])
        with open_source(folder / name) as source:
            rows = {key: np.concatenate([e[key] for e in source]) for key in source.keys}
        ours = rows["front_depth"].astype(np.float64)
        ours = ours / 1000 if rows["front_depth"].dtype == np.uint16 else ours
        error = np.abs(ours - truth).max()
        assert error <= 1e-5, (name, error)
        colour = np.abs(np.moveaxis(front, 1, -1) - rows["front_rgb"]).max()
        assert colour <= 3, (name, colour)
        print(f"{name} ({unit}): depth within {error:.1e} m, colours within {colour:.0f} of 255")


def check_changes(folder: Path) -> None:
    """``modify_tasks`` and ``resume`` in a set of ours."""
    root = folder / "ours"
    convert_store(folder / "videos", folder / "ours.zarr", None, progress=False)
    export_episodes(EpisodeStore.open(folder / "ours.zarr"), root, "lerobot", progress=False)
    modify_tasks(opened(root), episode_tasks={0: "zzz last", 1: "aaa first"})
    with open_source(root) as source:
        record = SourceRecord.of(source.metadata)
        assert record is not None
        texts = [record.tasks[source.read_rows(i, 0, 1)["task_index"][0]] for i in range(2)]
    assert texts == ["zzz last", "aaa first"], texts
    print(f"modify_tasks in a set of ours: read as {texts}")


def check_resume(folder: Path, seed: int) -> None:
    """LeRobot appends an episode to a set of ours without cameras."""
    rng = np.random.default_rng(seed)
    root = folder / "resumed"
    with EpisodeWriter.create(folder / "numbers.zarr") as writer:
        for i, steps in enumerate(LENGTHS):
            rows = {"state": rng.normal(size=(steps, 3)).astype(np.float32)}
            rows["action"] = rng.normal(size=(steps, 2)).astype(np.float32)
            writer.add_episode(rows, seed=70 + i)
    export_episodes(
        EpisodeStore.open(folder / "numbers.zarr"), root, "lerobot", fps=FPS, progress=False
    )
    dataset = LeRobotDataset.resume("local/set", root=root)
    for _ in range(5):
        dataset.add_frame(
            {
                "action": np.ones(2, np.float32),
                "observation.state": np.zeros(3, np.float32),
                "task": "a new one",
            }
        )
    dataset.save_episode()
    dataset.finalize()
    with open_source(root) as source:
        record = SourceRecord.of(source.metadata)
        assert record is not None
        assert len(source) == 3 and source.seeds.tolist() == [70, 71, -1], source.seeds
        text = record.tasks[source.read_rows(2, 0, 1)["task_index"][0]]
        assert (source.read_rows(2, 0, 5)["action"] == 1).all()
    assert text == "a new one", text
    print(f"resume in a set of ours: 3 episodes, seeds 70, 71 and none, the new text {text!r}")


def check_merge(folder: Path) -> None:
    """Remove what an edited copy has more, and merge it with the raw set."""
    store = EpisodeStore.open(folder / "ours.zarr")
    with EpisodeWriter.create(folder / "edited.zarr", store.metadata) as writer:
        for episode in store:
            more = {
                "front_raw": episode["front_rgb"],
                "grid": np.zeros((len(episode["action"]), 2, 3)),
            }
            writer.add_episode({**episode, **more, "front_rgb": 255 - episode["front_rgb"]})
    export_episodes(
        EpisodeStore.open(folder / "edited.zarr"), folder / "edited", "lerobot", progress=False
    )
    copy = opened(folder / "edited")
    more = sorted(set(copy.meta.features) - set(opened(folder / "videos").meta.features))
    slim = remove_feature(copy, more, output_dir=folder / "slim", repo_id="local/slim")
    print(f"remove_feature: {', '.join(more)}, with one of two axes")
    raw = opened(folder / "videos")
    whole = merge_datasets([raw, slim], "local/merged", output_dir=folder / "merged")
    assert whole.num_episodes == 2 * len(LENGTHS), whole.num_episodes
    merged = opened(folder / "merged")
    first, last = (np.asarray(merged[i][FRONT]) for i in (0, sum(LENGTHS)))
    assert np.abs(first + last - 1).mean() < 0.05
    print(f"merge_datasets: {merged.num_episodes} episodes, {len(merged)} steps")


class Inverting:
    """An editor that leaves no doubt whether it ran."""

    id = "inverting@1"

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Every frame with its colours inverted."""
        given = seeds or [0] * len(frames)
        return [
            EditResult(255 - frame.rgb, seed, "invert", self.id, 1)
            for frame, seed in zip(frames, given, strict=True)
        ]


def check_looks(folder: Path) -> None:
    """One set with raw and edited episodes, which LeRobot loads with its provenance columns."""
    config = ConversionConfig(variants=2, keep_raw=True)
    store, root = folder / "looks.zarr", folder / "looks"
    convert_store(folder / "videos", store, GuardedEditor(Inverting()), config, progress=False)
    export_episodes(EpisodeStore.open(store), root, "lerobot", progress=False)
    dataset = opened(root)
    assert dataset.num_episodes == 3 * len(LENGTHS), dataset.num_episodes
    first = [dataset[LENGTHS[0] * copy] for copy in range(3)]
    assert [bool(item["synthetic"]) for item in first] == [False, True, True]
    assert [int(item["source_episode"]) for item in first] == [0, 0, 0]
    assert len({int(item["look_seed"]) for item in first}) == 3
    raw, edited = (np.asarray(item[FRONT]) for item in first[:2])
    assert np.abs(raw + edited - 1).mean() < 0.05
    print(f"two looks and the raw ones: {dataset.num_episodes} episodes in one set")


def main() -> None:
    """Run every check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to leave the sets; None: nowhere")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        check_depth(folder, options.seed)
        check_changes(folder)
        check_resume(folder, options.seed)
        check_merge(folder)
        check_looks(folder)
    names = ("lerobot", "datasets", "torch", "av", "pyarrow")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Checked with {found}, Python {platform.python_version()}, seed {options.seed}.")


if __name__ == "__main__":
    main()
