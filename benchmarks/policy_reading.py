"""How fast policies read batches of shuffled windows, against other ways to read the same store.

``python benchmarks/policy_reading.py [--frames N]``

A batch is 64 windows of 2 observations (one 96x96 camera and a state) and 16 actions. Read by

* ``spie_robo``: :class:`spie_robo.policies.WindowDataset`, decoded frames in memory-mapped files
  (the default), or in memory;
* ``zarr-python``: ``oindex`` with the rows of a batch, each row once;
* ``tensorstore``: the same rows, if it is installed (``pip install tensorstore``);
* ``diffusion policy``: the original's way: ``ReplayBuffer.copy_from_path`` decodes all of the store
  into NumPy arrays, ``SequenceSampler.sample_sequence`` cuts one window at a time out of them, and
  the windows are stacked.

Warm is after a first pass; cold after the files were put out of the page cache, where the system
allows it.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import zarr
from harness import report, spread
from numpy.typing import NDArray
from tables.speed_tables import reading_table

from spie_robo.data import EpisodeWriter
from spie_robo.policies import WindowDataset, WindowShape
from spie_robo.policies.windows import index_windows

BATCH, SIDE, SHAPE = 64, 96, WindowShape(2, 16, 8)
CAMERA, EPISODE = "front_rgb", 200
SECONDS, MOST, LEAST = 6.0, 200, 3

SLOW = ("zarr-python oindex", "tensorstore")

Reader = Callable[[NDArray[np.int64]], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="policy_reading_") as folder:
        store = write_store(Path(folder) / "episodes.zarr", options.frames, options.seed)
        cache = Path(folder) / "cache"
        results: dict[str, Any] = {
            "frames": options.frames,
            "store_bytes": sum(f.stat().st_size for f in store.rglob("*") if f.is_file()),
            "cold_works": drop_pages(store),
            "readers": {},
        }
        for name, build in readers(store, cache).items():
            batches = Batches(len(index_windows(episode_ends(store), SHAPE)), options.seed)
            results["readers"][name] = measure(name, build, [store, cache], batches)
            print(name, results["readers"][name], flush=True)
    report("policy_reading", options.seed, results, table(results))


def write_store(path: Path, frames: int, seed: int) -> Path:
    """Episodes of a smooth scene with a moving patch and a little noise."""
    rng = np.random.default_rng(seed)
    with EpisodeWriter.create(path) as writer:
        for episode in range(frames // EPISODE):
            scene = cv2.resize(rng.integers(40, 220, (6, 6, 3), np.uint8), (SIDE, SIDE))
            images = np.repeat(scene[None], EPISODE, 0)
            walk = np.clip(np.cumsum(rng.normal(0, 2, (EPISODE, 2)), 0) + 40, 0, SIDE - 16)
            for image, (y, x) in zip(images, walk.astype(int), strict=True):
                image[y : y + 16, x : x + 16] = (200, 30, 30)
            noisy = images + rng.integers(-1, 2, images.shape)
            writer.add_episode(
                {
                    "action": rng.normal(size=(EPISODE, 4)).astype(np.float32),
                    "state": rng.normal(size=(EPISODE, 14)).astype(np.float32),
                    CAMERA: np.clip(noisy, 0, 255).astype(np.uint8),
                },
                seed=episode,
            )
    return path


def readers(store: Path, cache: Path) -> dict[str, Callable[[], Reader]]:
    """How to open each reader; what it is given are numbers of windows."""

    def mapped() -> Reader:
        return WindowDataset([store], SHAPE, image_size=SIDE, cache=cache).windows

    def in_memory() -> Reader:
        return WindowDataset([store], SHAPE, image_size=SIDE, cache=None).windows

    found = {
        "spie_robo, memory-mapped": mapped,
        "spie_robo, in memory": in_memory,
        "zarr-python oindex": lambda: by_rows(store, open_zarr(store)),
        "diffusion policy, in memory": lambda: diffusion_policy(store),
    }
    try:
        import tensorstore  # noqa: F401
    except ImportError:
        print("tensorstore is not installed and is left out: pip install tensorstore")
    else:
        found["tensorstore"] = lambda: by_rows(store, open_tensorstore(store, 0))
        found["tensorstore, all chunks cached"] = lambda: by_rows(
            store, open_tensorstore(store, 10**10)
        )
    return found


def open_zarr(store: Path) -> dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]]:
    data = zarr.open_group(store, mode="r")["data"]
    return {key: data[key].oindex.__getitem__ for key in ("action", "state", CAMERA)}


def open_tensorstore(
    store: Path, cache_bytes: int
) -> dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]]:
    """With room for ``cache_bytes`` of decoded chunks in memory."""
    import tensorstore as ts

    context = ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})

    def opened(key: str) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        kvstore = {"driver": "file", "path": str(store / "data" / key)}
        spec = {"driver": "zarr3", "kvstore": kvstore, "recheck_cached_data": False}
        array = ts.open(spec, open=True, context=context).result()
        return lambda rows: np.asarray(array[rows].read().result())

    return {key: opened(key) for key in ("action", "state", CAMERA)}


def by_rows(store: Path, arrays: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]]) -> Reader:
    """Read the rows of a batch, each once and in order, then put windows together."""
    index = index_windows(episode_ends(store), SHAPE)

    def read(windows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        rows = index.rows(windows, SHAPE.horizon)
        batch = {}
        for key, get in arrays.items():
            wanted = rows if key == "action" else rows[:, : SHAPE.observation_horizon]
            unique, places = np.unique(wanted, return_inverse=True)
            batch[key] = get(unique)[places.reshape(wanted.shape)]
        return batch

    return read


def diffusion_policy(store: Path) -> Reader:
    """All in memory, one window at a time, as ``SequenceSampler.sample_sequence`` does it."""
    data = zarr.open_group(store, mode="r")["data"]
    arrays = {key: data[key][:] for key in ("action", "state", CAMERA)}
    index = index_windows(episode_ends(store), SHAPE)

    def sample(window: int) -> dict[str, NDArray[Any]]:
        first, last = int(index.first[window]), int(index.last[window])
        start = int(index.start[window])
        begin, end = max(start, first), min(start + SHAPE.horizon, last + 1)
        before, after = begin - start, end - start
        result = {}
        for key, array in arrays.items():
            part = array[begin:end]
            if key != "action":  # key_first_k: observations only where they are seen
                part = array[begin : min(end, start + SHAPE.observation_horizon)]
            filled = np.zeros((SHAPE.horizon, *array.shape[1:]), array.dtype)
            filled[before : before + len(part)] = part
            filled[:before] = part[0]
            if key == "action":
                filled[after:] = part[-1]
            result[key] = filled if key == "action" else filled[: SHAPE.observation_horizon]
        return result

    def read(windows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        samples = [sample(int(window)) for window in windows]
        return {key: np.stack([s[key] for s in samples]) for key in arrays}

    return read


def episode_ends(store: Path) -> NDArray[np.int64]:
    return np.asarray(zarr.open_group(store, mode="r")["meta/episode_ends"][:], np.int64)


@dataclass(frozen=True)
class Batches:
    """Shuffled passes over all windows of the store."""

    windows: int
    seed: int

    def shuffled(self, number: int, limit: int | None = None) -> Iterator[NDArray[np.int64]]:
        """The first ``limit`` batches of pass ``number``; None gives all of it."""
        order = np.random.default_rng((self.seed, number)).permutation(self.windows)
        batches = len(order) // BATCH
        for i in range(batches if limit is None else min(limit, batches)):
            yield order[i * BATCH : (i + 1) * BATCH]


def measure(
    name: str, build: Callable[[], Reader], paths: list[Path], batches: Batches
) -> dict[str, Any]:
    """Seconds to open (the first time, and again), windows a second cold and warm."""
    started = time.perf_counter()
    read = build()
    first_open = time.perf_counter() - started
    del read
    gc.collect()  # a page that is mapped cannot be dropped
    for path in paths:
        drop_pages(path)
    started = time.perf_counter()
    read = build()
    result = {"first_open_s": first_open, "open_s": time.perf_counter() - started}
    if "memory" not in name.replace("memory-mapped", ""):
        for path in paths:
            drop_pages(path)
        result["cold"] = spread(list(rates(read, batches.shuffled(0, MOST))))
    # The slow ones would take minutes for a whole pass; their time is decoding, not the disk.
    for windows in batches.shuffled(1, 20 if name in SLOW else None):
        read(windows)
    result["warm"] = spread(list(rates(read, batches.shuffled(2, MOST))))
    return result


def rates(read: Reader, batches: Iterator[NDArray[np.int64]]) -> Iterator[float]:
    """Windows a second of each batch, for some seconds."""
    stop = time.perf_counter() + SECONDS
    for number, windows in enumerate(batches):
        started = time.perf_counter()
        read(windows)
        now = time.perf_counter()
        yield BATCH / (now - started)
        if now > stop and number + 1 >= LEAST:
            return


def drop_pages(path: Path) -> bool | None:
    """Put a folder's files out of the page cache; whether that worked, None if nobody can tell."""
    files = [file for file in path.rglob("*") if file.is_file() and file.stat().st_size > 4096]
    os.sync()
    verdicts = []
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            verdicts.append(_is_out(descriptor))
        finally:
            os.close(descriptor)
    if not verdicts or None in verdicts:
        return None
    return sum(map(bool, verdicts)) > 0.9 * len(verdicts)


def _is_out(descriptor: int) -> bool | None:
    """Whether reading the start of a file would have to wait for the disk (Linux RWF_NOWAIT)."""
    with suppress(OSError, AttributeError):
        try:
            return os.preadv(descriptor, [bytearray(16)], 0, os.RWF_NOWAIT) < 1
        except BlockingIOError:
            return True
    return None


def table(results: dict[str, Any]) -> str:
    said = {
        True: "files were put out of the page cache",
        False: "files could not be put out of the page cache: cold is no colder than warm",
        None: "this system does not say whether files left the page cache",
    }[results["cold_works"]]
    head = (
        f"{results['frames']} frames of {SIDE}x{SIDE}, {results['store_bytes'] / 1e6:.0f} MB; "
        f"batches of {BATCH} windows; {said}."
    )
    return f"{head}\n\n{reading_table(results)}"


if __name__ == "__main__":
    main()
