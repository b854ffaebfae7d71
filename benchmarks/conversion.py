"""What a conversion costs beside the bare editor, and what other ways to do it cost.

    taskset -c 0,1 python benchmarks/conversion.py --episodes 2 --steps 60 --repeats 3
    taskset -c 0,1 python benchmarks/conversion.py --episodes 6 --steps 60 --repeats 3 --ways \
        "convert, no guard" "convert, guard in a process" "for-loop script" --name conversion_longer

Every way edits the same frames of one recording with the embedded editor at 128x128, in turn, in
every repeat. Shared machines change their speed by the minute: before and after each way the bare
editor edits a fifth of the frames, and the way is held against the mean of the two. The episodes
are as long as those of real robots: recorded ones of Push, one after another. One thread for torch,
so that two cores can edit and do the rest. Workers of Ray and the guard's process are started and
loaded before the clock starts, as the editor is.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report

from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import ConversionConfig, EpisodeStore, EpisodeWriter, convert_store
from spie_robo.data.conversion.ray_engine import RayEngine
from spie_robo.data.episode_seed import episode_seed
from spie_robo.data.formats import export_episodes
from spie_robo.data.frames import camera_frames
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.guard.process import GuardProcess
from spie_robo.types import Frame

BATCH = 4
WORKERS = 2
NO_GUARD, THREAD, PROCESS = (
    "convert, no guard", "convert, guard in a thread", "convert, guard in a process",
)  # fmt: skip
SCRIPT, RAY, RAY_DATA = (
    "for-loop script", "convert, Ray, 2 workers, no guard", "Ray Data map_batches, 2 actors",
)  # fmt: skip
WAYS = (NO_GUARD, THREAD, PROCESS, SCRIPT, RAY, RAY_DATA)


def load() -> GuardedEditor:
    """Load editor and guard, here or on a worker."""
    torch.set_num_threads(1)
    guarded = EditRequest().load()
    assert guarded is not None
    return guarded


def load_unguarded() -> GuardedEditor:
    """Load the editor alone."""
    return dataclasses.replace(load(), guard=None)


class MapBatches:
    """What a Ray Data script of a user would hand to ``map_batches``."""

    def __init__(self) -> None:
        """Load the editor."""
        self.editor = load().editor
        self.editor.edit([Frame(np.zeros((128, 128, 3), np.uint8))], seeds=[0])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Edit one batch."""
        frames = [Frame(rgb) for rgb in batch["rgb"]]
        edits = self.editor.edit(frames, seeds=[int(seed) for seed in batch["seed"]])
        return {**batch, "rgb": np.stack([edit.rgb for edit in edits])}


def bare(frames: list[Frame], editor: Any) -> tuple[float, float]:
    """Wall and CPU seconds a frame of the editor alone, on frames that are in memory."""
    began = clocks()
    for start in range(0, len(frames), BATCH):
        batch = frames[start : start + BATCH]
        editor.edit(batch, seeds=[0] * len(batch))
    wall, cpu = (b - a for a, b in zip(began, clocks(), strict=True))
    return wall / len(frames), cpu / len(frames)


def loop(source: EpisodeStore, editor: Any, folder: Path) -> None:
    """A script that a user would write: frame by frame, an episode a file."""
    for i in range(len(source)):
        arrays = dict(source[i])
        for camera in ("front", "wrist"):
            frames = camera_frames(source.metadata, arrays, camera)
            edits = [editor.edit([f], seeds=[episode_seed(0, i)])[0].rgb for f in frames]
            arrays[f"{camera}_rgb"] = np.stack(edits)
        np.savez_compressed(folder / f"episode_{i}.npz", **arrays)


def convert(source: EpisodeStore, edits: GuardedEditor | RayEngine, folder: Path) -> None:
    """``spie-robo convert``, from opening the source to the checked output."""
    config = ConversionConfig(batch_size=BATCH)
    convert_store(source.path, folder / "out.zarr", edits, config, progress=False)


def map_batches(source: EpisodeStore, editor: Any, folder: Path) -> None:
    """Plain Ray Data: the same editor in a pool of actors, frames only, not written.

    It starts its workers itself; the clock runs from the first batch to the last, and is scaled
    to all frames.
    """
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [
        {"rgb": f.rgb, "seed": episode_seed(0, i)}
        for i in range(len(source))
        for f in frames_of(source, i)
    ]
    edited = ray.data.from_items(rows, override_num_blocks=len(rows) // BATCH).map_batches(
        MapBatches, batch_size=BATCH, concurrency=WORKERS, num_cpus=1
    )
    at = []
    for number, _ in enumerate(edited.iter_batches(batch_size=BATCH, prefetch_batches=0)):
        at.append((number, time.perf_counter()))
    span = at[-1][1] - at[WORKERS - 1][1]
    map_batches.seconds = span / (len(at) - WORKERS) * len(at)  # type: ignore[attr-defined]


def frames_of(source: EpisodeStore, episode: int) -> list[Frame]:
    """Every frame of an episode, camera by camera."""
    arrays = source[episode]
    return [f for c in ("front", "wrist") for f in camera_frames(source.metadata, arrays, c)]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds a frame of one way, and of the bare editor before and after it."""

    wall: float
    cpu: float
    alone: float
    alone_cpu: float

    def __str__(self) -> str:
        """For people."""
        return f"{1e3 * self.wall:.0f} ms a frame, the bare editor {1e3 * self.alone:.0f}"


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def measure(way: Callable[[Path], None], scratch: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one way."""
    folder = scratch / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    began = clocks()
    way(folder)
    ended = clocks()
    return ended[0] - began[0], ended[1] - began[1]


def way_of(
    name: str, source: EpisodeStore, editor: Any, guard: Any, apart: GuardProcess, ray: Any
) -> Callable[[Path], None]:
    """What is measured under a name."""
    return {
        NO_GUARD: partial(convert, source, GuardedEditor(editor)),
        THREAD: partial(convert, source, GuardedEditor(editor, guard)),
        PROCESS: partial(convert, source, GuardedEditor(editor, apart)),
        SCRIPT: partial(loop, source, editor),
        RAY: partial(convert, source, ray),
        RAY_DATA: partial(map_batches, source, editor),
    }[name]


def encoders(source: EpisodeStore, scratch: Path) -> dict[str, float]:
    """Milliseconds a frame that lossy outputs cost: a whole export, written and read back."""
    frames, found = 2 * source.n_steps, {}
    for name in ("lerobot", "minari-jpeg"):
        export_episodes(source, scratch / f"warm-{name}", name, fps=10, progress=False)
        began = time.process_time()
        export_episodes(source, scratch / name, name, fps=10, progress=False)
        found[name] = 1e3 * (time.process_time() - began) / frames
    return found


def edited_share(out: EpisodeStore) -> tuple[float, float]:
    """Share of frames that are edits, and edits tried a frame."""
    arrays = [out[i] for i in range(len(out))]
    keys = [f"realism_{c}" for c in ("front", "wrist")]
    edited = [a[f"{k}_edited"] for a in arrays for k in keys]
    tried = [a[f"{k}_attempts"] for a in arrays for k in keys]
    return float(np.concatenate(edited).mean()), float(np.concatenate(tried).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--name", default="conversion", help="of the results file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    scratch = Path(tempfile.mkdtemp(prefix="conversion"))
    needed = options.episodes * options.steps // 12 + 1
    recording = RecordCommand("SpieRobo/Push-v0", needed, scratch / "all.zarr", image_size=128)
    record(recording, progress=False)
    whole = EpisodeStore.open(recording.out)
    source = join(whole, scratch, options.episodes, options.steps)
    guarded = load()
    editor, guard = guarded.editor, guarded.guard
    warm = frames_of(source, 0)[:BATCH]
    edits = editor.edit(warm, seeds=[0] * BATCH)
    every = [frame for i in range(len(source)) for frame in frames_of(source, i)]
    frames, few = len(every), every[::5]
    found: dict[str, list[Cost]] = {}
    share = tried = 0.0
    lossy = encoders(whole, scratch)
    with ExitStack() as stack:
        apart = stack.enter_context(GuardProcess(guard))
        apart.judge_batch(warm, edits)
        plain = None
        if {RAY, RAY_DATA} & set(options.ways):
            start_ray()
            plain = stack.enter_context(RayEngine(load_unguarded, WORKERS))
        for repeat in range(options.repeats):
            before = bare(few, editor)
            for name in options.ways:
                way = way_of(name, source, editor, guard, apart, plain)
                wall, cpu = (seconds / frames for seconds in measure(way, scratch))
                if name == RAY_DATA:
                    wall, cpu = map_batches.seconds / frames, float("nan")  # type: ignore[attr-defined]
                if name == PROCESS:
                    share, tried = edited_share(EpisodeStore.open(scratch / "run/out.zarr"))
                after = bare(few, editor)
                alone = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
                found.setdefault(name, []).append(Cost(wall, cpu, *alone))
                print(f"{repeat}: {name}: {found[name][-1]}", flush=True)
                before = after
    shutil.rmtree(scratch)
    tell(options.name, frames, found, lossy, {"edited": share, "edits_a_frame": tried})


def start_ray() -> None:
    """Start Ray with room for its workers; it ends with this process."""
    import ray

    os.environ["RAY_worker_niceness"] = "0"  # as the local engine: not behind other programs
    ray.init(
        address="local",
        num_cpus=2 * WORKERS + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )


def join(store: EpisodeStore, scratch: Path, episodes: int, steps: int) -> EpisodeStore:
    """Episodes of so many steps, of recorded ones one after another."""
    waiting = [store[i] for i in range(len(store))]
    with EpisodeWriter.create(scratch / "sim.zarr", store.metadata) as writer:
        for number in range(episodes):
            parts: list[dict[str, Any]] = []
            while sum(len(part["action"]) for part in parts) < steps:
                parts.append(waiting.pop())
            rows = {key: np.concatenate([p[key] for p in parts])[:steps] for key in parts[0]}
            writer.add_episode(rows, seed=number)
    return EpisodeStore.open(scratch / "sim.zarr")


def tell(
    file: str,
    frames: int,
    found: dict[str, list[Cost]],
    lossy: dict[str, float],
    guard: dict[str, float],
) -> None:
    """Print and keep the figures."""
    alone = [cost for costs in found.values() for cost in costs]
    edit = 1e3 * float(np.median([cost.alone_cpu for cost in alone]))
    lines = [
        "| way | frames a second | of the bare editor's (least to most) | CPU ms a frame |",
        "|---|---|---|---|",
        f"| bare editor, frames in memory | {1 / np.median([c.alone for c in alone]):.2f} | 100 % "
        f"| {edit:.0f} |",
    ]
    results: dict[str, Any] = {"frames": frames, "lossy_cpu_ms_a_frame": lossy, "guard": guard}
    for name, costs in found.items():
        ratio = np.array([cost.alone / cost.wall for cost in costs])
        work = 1e3 * float(np.median([cost.cpu for cost in costs]))
        known = not np.isnan(work) and "Ray" not in name and "process" not in name
        lines.append(
            f"| {name} | {1 / np.median([c.wall for c in costs]):.2f} | {np.median(ratio):.0%} "
            f"({ratio.min():.0%} to {ratio.max():.0%}) | {f'{work:.0f}' if known else ''} |"
        )
        results[name] = {"costs": [dataclasses.asdict(c) for c in costs], "ratio": list(ratio)}
    if PROCESS in found:
        lines.append(
            f"\nWith the guard {guard['edited']:.0%} of the frames are edits, "
            f"{guard['edits_a_frame']:.2f} edits tried a frame."
        )
    lines.append(
        f"\n{frames} frames. "
        f"Written and read back: LeRobot (H.264) {lossy['lerobot']:.1f} ms CPU a frame, "
        f"{lossy['lerobot'] / edit:.1%} of the edit; Minari with JPEG (quality 75) "
        f"{lossy['minari-jpeg']:.1f} ms, {lossy['minari-jpeg'] / edit:.1%}."
    )
    report(file, 0, results, "\n".join(lines))


if __name__ == "__main__":
    main()
