"""One recording in every format: what it costs, and whether its edits are those of the store.

    python benchmarks/formats.py --episodes 200 --folder /tmp/formats

1. records ``SpieRobo/Reach-v0`` (both cameras, the expert), or takes ``--store``;
2. writes it in every format of ``spie-robo convert --to``, with ``--editor none``;
3. converts the store, and each of those files, with the embedded editor into an episode store,
   the front camera edited (``--cameras`` for more; the other is copied);
4. compares these: lengths, seeds, actions, states, rewards, success flags and raw frames must be
   equal to the bit, except the raw frames of LeRobot's video, of which the PSNR is measured.

The guard is on, as it is for a user. Its verdicts depend on the geometry that a format carries, so
edited frames are compared where the verdicts agree, and the share where they do is printed beside.

Everything goes through the command line, one process a step: seconds hold its start and the loading
of the editor. Outputs that are there are not made again; one that was cut off is made anew, since
its time would be wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from harness import report

from spie_robo.commands.convert import DataFormat
from spie_robo.data import EpisodeStore

ENV = "SpieRobo/Reach-v0"
FORMATS: tuple[str, ...] = get_args(DataFormat)
LOSSY = ("lerobot", "minari-jpeg")
ITSELF = "the store itself"
NUMBERS = ("action", "state", "reward", "success")


class Steps:
    """Commands that leave an output each, and how long they took; on disk, to go on."""

    def __init__(self, folder: Path) -> None:
        """Go on with what is in ``folder``."""
        self._file = folder / "seconds.json"
        self.seconds: dict[str, float] = {}
        if self._file.exists():
            self.seconds = json.loads(self._file.read_text())

    def run(self, out: Path, *words: object) -> float:
        """Make ``out`` with ``spie-robo WORDS`` unless it is there; seconds that it took."""
        name = f"{out.parent.name}/{out.name}"
        if name in self.seconds and out.exists():
            return self.seconds[name]
        for half in (out, out.with_name(f".{out.name}.staging")):
            shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name("spie-robo")), *map(str, words)]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.seconds[name] = time.perf_counter() - began
        self._file.write_text(json.dumps(self.seconds, indent=1))
        print(f"{name}: {self.seconds[name]:.1f} s", flush=True)
        return self.seconds[name]


def disk_bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(file.stat().st_size for file in files)


def compare(path: Path, expected: EpisodeStore) -> dict[str, Any]:
    """How a converted store differs from the one that it should equal.

    Returns:
        ``numbers`` and ``raw`` (equal to the bit), ``psnr`` of the raw frames in dB, ``verdicts``
        (share of frames with the same one), ``edits`` (share of equal frames among those).
    """
    found = EpisodeStore.open(path)
    lengths = [[s.episode_length(i) for i in range(len(s))] for s in (found, expected)]
    if lengths[0] != lengths[1]:
        raise SystemExit(f"{path}: expected episodes of {lengths[1]} steps, found {lengths[0]}.")
    numbers = found.seeds.tolist() == expected.seeds.tolist()
    cameras = sorted(key.removesuffix("_rgb") for key in expected.keys if key.endswith("_rgb"))
    squares, values, agree, equal, frames = 0.0, 0, 0, 0, 0
    for ours, theirs in zip(found, expected, strict=True):
        numbers &= all(np.array_equal(ours[key], theirs[key]) for key in NUMBERS)
        for camera in cameras:
            raw = f"{camera}_raw" if f"{camera}_raw" in theirs else f"{camera}_rgb"  # copied
            difference = ours[raw].astype(np.float64) - theirs[raw]
            squares += float(np.square(difference).sum())
            values += difference.size
            if raw == f"{camera}_rgb":
                continue
            key = f"realism_{camera}_edited"
            same = ours[key] == theirs[key]
            rows = ours[f"{camera}_rgb"] == theirs[f"{camera}_rgb"]
            frames += len(same)
            agree += int(same.sum())
            equal += int(rows[same].all(axis=(1, 2, 3)).sum())
    psnr = float("inf") if squares == 0 else 10 * np.log10(255**2 * values / squares)
    return {
        "numbers": bool(numbers),
        "raw": squares == 0,
        "psnr": psnr,
        "verdicts": agree / frames,
        "edits": equal / max(1, agree),
        "frames": frames,
    }


def measure(folder: Path, store: Path, edited: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Write, convert and compare every format."""
    steps = Steps(folder)
    results: dict[str, dict[str, Any]] = {}
    for name in (ITSELF, *FORMATS):
        file, write = store, float("nan")
        if name != ITSELF:
            file = folder / "files" / name
            write = steps.run(file, "convert", store, file, "--to", name, "--editor", "none")
        out = folder / "edited" / f"{name.replace(' ', '_')}.zarr"
        words = ("--editor", "embedded", "--cameras", *edited)
        seconds = steps.run(out, "convert", file, out, *words)
        expected = EpisodeStore.open(folder / "edited" / f"{ITSELF.replace(' ', '_')}.zarr")
        found = compare(out, expected)
        rate = found["frames"] / seconds
        sizes = {"bytes": disk_bytes(file), "write_seconds": write, "convert_seconds": seconds}
        results[name] = {**sizes, "frames_a_second": rate, **found}
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures for people."""
    lines = [
        "| format | MB | s to write | s to convert | frames a second | numbers | raw frames "
        "| same verdict | same edit where so |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        write = "" if np.isnan(row["write_seconds"]) else f"{row['write_seconds']:.1f}"
        raw = "equal" if row["raw"] else f"{row['psnr']:.1f} dB"
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.1f} | {write} | {row['convert_seconds']:.1f} "
            f"| {row['frames_a_second']:.1f} | {'equal' if row['numbers'] else 'DIFFER'} | {raw} "
            f"| {row['verdicts']:.1%} | {row['edits']:.1%} |"
        )
    return "\n".join(lines)


def wrong(results: dict[str, dict[str, Any]]) -> list[str]:
    """Formats that do not give what they promise."""
    return [
        name
        for name, row in results.items()
        if not row["numbers"] or (name not in LOSSY and not (row["raw"] and row["edits"] == 1))
    ]


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="take this recording instead of making one")
    parser.add_argument("--cameras", nargs="+", default=["front"], help="those to edit")
    parser.add_argument("--folder", type=Path, default=Path("runs/formats"))
    options = parser.parse_args()
    store: Path | None = options.store
    name = f"{options.episodes}_of_seed_{options.seed}" if store is None else store.stem
    folder = options.folder.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    if store is None:
        store = folder / "recorded" / "sim.zarr"
        words = ("record", "--env", ENV, "--episodes", options.episodes, "--seed", options.seed)
        Steps(folder).run(store, *words, "--out", store)
    results = measure(folder, store.absolute(), options.cameras)
    source = EpisodeStore.open(store)
    text = f"{len(source)} episodes, {source.n_steps} steps, {ENV if not options.store else store}"
    text += f", edited: {', '.join(options.cameras)}"
    report("formats", options.seed, {"source": text, **results}, f"{text}\n\n{table(results)}")
    if wrong(results):
        raise SystemExit(f"Not equal to what the store itself gives: {', '.join(wrong(results))}.")


if __name__ == "__main__":
    main()
