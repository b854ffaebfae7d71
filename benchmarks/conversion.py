"""What a conversion costs beside the bare editor, and what other ways to do it cost.

    taskset -c 0,1 python benchmarks/conversion.py --episodes 2 --steps 120 --repeats 3

Every way edits the same frames of one recording with the embedded editor at 128x128, in turn, in
every repeat; ratios are taken within a repeat. The episodes are as long as those of real robots:
recorded ones of Push, one after another. One thread for torch, so that two cores can edit and do
the rest. Workers of Ray and the guard's process are started and loaded before the clock starts, as
the editor is.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report, spread

from spie_robo.config import EditConfig, RecordConfig
from spie_robo.converting import _load_pair
from spie_robo.data import ConvertOptions, EpisodeStore, EpisodeWriter, convert_store
from spie_robo.data.formats import export_episodes
from spie_robo.data.frames import camera_frames
from spie_robo.data.ray_engine import RayEngine
from spie_robo.data.seeds import episode_seed
from spie_robo.guard.process import GuardProcess
from spie_robo.recording import record
from spie_robo.types import Frame

BATCH = 4
WORKERS = 2


def load() -> Any:
    """Editor and guard, here or on a worker."""
    torch.set_num_threads(1)
    return _load_pair(EditConfig())


class MapBatches:
    """What a Ray Data script of a user would hand to ``map_batches``."""

    def __init__(self) -> None:
        """Load the editor."""
        self.editor, _ = load()
        self.editor.edit([Frame(np.zeros((128, 128, 3), np.uint8))], seeds=[0])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Edit one batch."""
        frames = [Frame(rgb) for rgb in batch["rgb"]]
        edits = self.editor.edit(frames, seeds=[int(seed) for seed in batch["seed"]])
        return {**batch, "rgb": np.stack([edit.rgb for edit in edits])}


def bare(source: EpisodeStore, editor: Any, folder: Path) -> None:
    """The editor alone, on frames that are in memory."""
    frames = [(f, episode_seed(0, i)) for i in range(len(source)) for f in frames_of(source, i)]
    began = time.perf_counter(), time.process_time()
    for start in range(0, len(frames), BATCH):
        batch = frames[start : start + BATCH]
        editor.edit([f for f, _ in batch], seeds=[s for _, s in batch])
    bare.times = tuple(b - a for a, b in zip(began, clocks(), strict=True))  # type: ignore[attr-defined]


def loop(source: EpisodeStore, editor: Any, folder: Path) -> None:
    """A script that a user would write: frame by frame, an episode a file."""
    for i in range(len(source)):
        arrays = dict(source[i])
        for camera in ("front", "wrist"):
            frames = camera_frames(source.metadata, arrays, camera)
            edits = [editor.edit([f], seeds=[episode_seed(0, i)])[0].rgb for f in frames]
            arrays[f"{camera}_rgb"] = np.stack(edits)
        np.savez_compressed(folder / f"episode_{i}.npz", **arrays)


def convert(
    source: EpisodeStore, editor: Any, folder: Path, guard: Any = None, engine: Any = None
) -> None:
    """``spie-robo convert``, from opening the source to the checked output."""
    options = ConvertOptions(batch_size=BATCH)
    out = folder / "out.zarr"
    if engine is not None:
        editor = None
    convert_store(source.path, out, editor, guard, options, engine=engine, progress=False)


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


def ways(
    source: EpisodeStore, editor: Any, guards: dict[str, Any], engines: dict[str, Any]
) -> dict[str, Any]:
    """Every way by name; the first is what the others are divided by."""
    with_guard = {
        f"convert, guard in {place}": partial(convert, source, editor, guard=guard)
        for place, guard in guards.items()
    }
    with_ray = {
        f"convert, Ray, 2 workers, {name}": partial(convert, source, editor, engine=engine)
        for name, engine in engines.items()
    }
    return {
        "bare editor": partial(bare, source, editor),
        "convert, no guard": partial(convert, source, editor),
        **with_guard,
        "for-loop script": partial(loop, source, editor),
        **with_ray,
        "Ray Data map_batches, 2 actors": partial(map_batches, source, editor),
    }


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
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    scratch = Path(tempfile.mkdtemp(prefix="conversion"))
    needed = options.episodes * options.steps // 12 + 1
    recording = RecordConfig("SpieRobo/Push-v0", needed, scratch / "all.zarr", image_size=128)
    record(recording, progress=False)
    whole = EpisodeStore.open(recording.out)
    source = join(whole, scratch, options.episodes, options.steps)
    editor, guard = load()
    warm = frames_of(source, 0)[:BATCH]
    edits = editor.edit(warm, seeds=[0] * BATCH)
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    share = tried = 0.0
    lossy = encoders(whole, scratch)
    import ray

    os.environ["RAY_worker_niceness"] = "0"  # as the local engine: not behind other programs
    ray.init(
        address="local",
        num_cpus=2 * WORKERS + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    with GuardProcess(guard) as apart, RayEngine(lambda: (load()[0], None), WORKERS) as plain:
        apart.judge_batch(warm, edits)
        guards = {"a thread": guard, "a process": apart}
        for repeat in range(options.repeats):
            for name, way in ways(source, editor, guards, {"no guard": plain}).items():
                seconds = measure(way, scratch)
                if name == "bare editor":
                    seconds = bare.times  # type: ignore[attr-defined]
                elif name.startswith("Ray Data"):
                    seconds = (map_batches.seconds, float("nan"))  # type: ignore[attr-defined]
                if name == "convert, guard in a process":
                    share, tried = edited_share(EpisodeStore.open(scratch / "run/out.zarr"))
                wall.setdefault(name, []).append(seconds[0])
                cpu.setdefault(name, []).append(seconds[1])
                print(f"{repeat}: {name}: {seconds[0]:.1f} s, CPU {seconds[1]:.1f} s", flush=True)
    ray.shutdown()
    shutil.rmtree(scratch)
    frames = 2 * source.n_steps
    tell(frames, wall, cpu, lossy, {"edited": share, "edits_a_frame": tried})


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
    frames: int,
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    lossy: dict[str, float],
    guard: dict[str, float],
) -> None:
    """Print and keep the figures."""
    base = np.array(wall["bare editor"])
    lines = [
        "| way | frames a second | of the bare editor's (least to most) | CPU ms a frame |",
        "|---|---|---|---|",
    ]
    results: dict[str, Any] = {"frames": frames, "lossy_cpu_ms_a_frame": lossy, "guard": guard}
    for name, seconds in wall.items():
        ratio = base / np.array(seconds)
        work = 1e3 * np.median(cpu[name]) / frames
        known = not np.isnan(work) and "Ray" not in name
        lines.append(
            f"| {name} | {frames / np.median(seconds):.2f} | {np.median(ratio):.0%} "
            f"({ratio.min():.0%} to {ratio.max():.0%}) | {f'{work:.0f}' if known else ''} |"
        )
        results[name] = {
            "seconds": spread(seconds),
            "ratio": spread(list(ratio)),
            "cpu_ms": work if known else None,
        }
    edit = 1e3 * np.median(cpu["bare editor"]) / frames
    lines.append(
        f"\n{frames} frames; with the guard {guard['edited']:.0%} are edits, "
        f"{guard['edits_a_frame']:.2f} edits tried a frame. "
        f"Written and read back: LeRobot (H.264) {lossy['lerobot']:.1f} ms CPU a frame, "
        f"{lossy['lerobot'] / edit:.1%} of the edit; Minari with JPEG (quality 75) "
        f"{lossy['minari-jpeg']:.1f} ms, {lossy['minari-jpeg'] / edit:.1%}."
    )
    report("conversion", 0, results, "\n".join(lines))


if __name__ == "__main__":
    main()
