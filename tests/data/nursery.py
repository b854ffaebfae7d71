"""Writers that die: a process that forks one child a request, so that killing many is cheap.

Each line on standard input is a JSON request; its child reports on standard output. The tests load
this file with ``runpy`` to share the episodes and the disguised editor.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import spie_robo.data.conversion.convert
from spie_robo.data import ConversionConfig, EpisodeWriter, convert_store
from spie_robo.data.store import layout
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.files import atomic
from spie_robo.types import Deviation, EditResult, GuardVerdict

SIZE = 16


def small_chunks() -> None:
    """Three frames a chunk and four chunks a shard, so that a few steps cross many borders."""
    layout.CHUNK_BYTES = 3 * SIZE * SIZE * 3
    layout.FILE_BYTES = 4 * layout.CHUNK_BYTES
    layout.FILE_BYTES_V2 = layout.CHUNK_BYTES


def episode(i: int) -> dict[str, np.ndarray]:
    """Episode ``i`` of the tests: always the same, of 1 to 9 steps."""
    rng = np.random.default_rng(i)
    steps = int(rng.integers(1, 10))
    return {
        "action": rng.normal(size=(steps, 7)).astype(np.float32),
        "reward": np.zeros(steps, np.float32),
        "success": rng.random(steps) < 0.5,
        "front_rgb": rng.integers(0, 256, (steps, SIZE, SIZE, 3), np.uint8),
        "front_depth": rng.random((steps, SIZE, SIZE)).astype(np.float32),
        "front_segmentation": rng.integers(0, 4, (steps, SIZE, SIZE), np.int32),
    }


def write(path: Path, episodes: range, zarr_format: int = 3) -> Path:
    new = not path.exists()
    opened = (
        EpisodeWriter.create(path, zarr_format=zarr_format) if new else EpisodeWriter.open(path)
    )
    with opened as writer:
        for i in episodes:
            writer.add_episode(episode(i), seed=i)
    return path


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert found[key].dtype == rows.dtype
        np.testing.assert_array_equal(found[key], rows)


def edit_json(file: Path, keys: list[str], value: object) -> None:
    document = json.loads(file.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(document))


class SwapEditor:
    """A disguised editor: swaps red and blue, and leaves its seed in one pixel."""

    id = "swap@1"

    def edit(self, frames, references=None, instruction=None, seeds=None):
        results = []
        for frame, seed in zip(frames, seeds, strict=True):
            rgb = frame.rgb[..., ::-1].copy()
            rgb[0, 0] = [seed % 256, seed // 256 % 256, seed // 65536 % 256]
            results.append(EditResult(rgb, seed, instruction or "swap", self.id, 1))
        return results


class EvenGuard:
    """A disguised guard: accepts edits whose second pixel is even, and measures its depth."""

    id = "even@1"

    def judge(self, frame, edit):
        accepted = int(edit.rgb[0, 1, 0]) % 2 == 0
        depth = float(frame.geometry.depth[0, 0]) if frame.geometry else float("nan")
        return GuardVerdict(accepted, (Deviation("moved_px", depth, 2.0),), "parity", "simulator")

    def judge_batch(self, frames, edits):
        return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]


def die_at(event: int) -> None:
    """Arrange for SIGKILL at the n-th of: file begun, half written, written, in place."""
    counter = itertools.count()
    write, replace = atomic.write_synced, os.replace

    def hit() -> None:
        if next(counter) == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(path: Path, data: object) -> None:
        hit()
        whole = bytes(data)
        path.write_bytes(whole[: len(whole) // 2])
        hit()
        write(path, whole)
        hit()

    def dying_replace(source: Path, target: Path) -> None:
        replace(source, target)
        hit()

    atomic.write_synced = dying_write
    os.replace = dying_replace


def report(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def write_job(request: dict) -> None:
    path = Path(request["path"])
    if path.exists():
        writer = EpisodeWriter.open(path)
    else:
        writer = EpisodeWriter.create(path, zarr_format=request["zarr_format"])
    with writer:
        for i in range(writer.n_episodes, request["episodes"]):
            writer.begin_episode(seed=i)
            arrays = episode(i)
            for t in range(len(arrays["reward"])):
                writer.append({key: rows[t] for key, rows in arrays.items()})
            writer.end_episode()
            report(f"ack {i}")


def convert_job(request: dict) -> None:
    options = ConversionConfig(batch_size=request.get("batch_size", 2), seed=3)
    guarded = GuardedEditor(SwapEditor(), EvenGuard())
    convert_store(request["source"], request["path"], guarded, options, progress=False)


def main() -> None:
    small_chunks()
    os.fsync = lambda descriptor: None  # SIGKILL loses no page cache, and the disk is slow
    report("ready")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if request.get("die_at") is not None:
                    die_at(request["die_at"])
                report(f"pid {os.getpid()}")
                {"write": write_job, "convert": convert_job}[request["job"]](request)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        report(f"over {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    assert spie_robo.data.conversion.convert
    main()
