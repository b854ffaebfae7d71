"""How near do edits come to the photoreal twin of the same moment? No reward knows that target.

The stores are those of ``benchmarks/robustness.py``: the same demonstrations as raw frames, edited
in several ways, and path-traced in a lab that no training saw.

    python benchmarks/robustness.py --tasks Reach --data-only
    python benchmarks/twin_distance.py --task Reach
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness import ROOT, report
from post_training import color_histogram
from robustness_table import LABELS

from spie_robo.data import EpisodeStore
from spie_robo.evaluation.realism import PooledFeatures, kernel_distance
from spie_robo.types import RGB

COLUMNS = ("raw", "matched", "edited", "post-trained")


def frames(store: Path, camera: str, numbers: list[int]) -> list[RGB]:
    """Frames of a camera by their number over all episodes."""
    array = EpisodeStore.open(store).array(f"{camera}_rgb")
    return [array.read(number, number + 1)[0] for number in numbers]


def edited_share(store: Path, camera: str) -> float:
    """Share of a camera's frames that are edits, which the guard accepted; NaN without editor."""
    opened, key = EpisodeStore.open(store), f"realism_{camera}_edited"
    return float(opened.array(key).read(0, opened.n_steps).mean()) if key in opened.keys else np.nan


def psnr(one: RGB, other: RGB) -> float:
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def distances(edits: list[RGB], targets: list[RGB], seed: int) -> dict[str, float]:
    """How far edits are from the twin's frames of the same moments."""
    values = [psnr(edit, target) for edit, target in zip(edits, targets, strict=True)]
    early = PooledFeatures("stride8")
    return {
        "psnr": float(np.mean(values)),
        "psnr_deviation": float(np.std(values)),
        "color": float(np.abs(color_histogram(edits) - color_histogram(targets)).sum() / 2),
        "kid": kernel_distance(edits, targets, seed=seed).mean,
        "kid_stride8": kernel_distance(edits, targets, seed=seed, extractor=early).mean,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="Reach")
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "robustness")
    options = parser.parse_args()
    folder = options.runs / options.task
    total = EpisodeStore.open(folder / "twin.zarr").n_steps
    rng = np.random.default_rng(options.seed)
    numbers = sorted(rng.choice(total, min(options.frames, total), replace=False).tolist())
    results: dict[str, dict[str, float]] = {}
    lines = [
        "| camera | frames | edits | PSNR, dB | colour histogram | KID x 1000 | KID (stride 8) |",
        "|---|---|---|---|---|---|---|",
    ]
    for camera in ("front", "wrist"):
        targets = frames(folder / "twin.zarr", camera, numbers)
        for column in COLUMNS:
            store = folder / f"{column}.zarr"
            found = distances(frames(store, camera, numbers), targets, options.seed)
            found["edited"] = edited_share(store, camera)
            results[f"{camera} {column}"] = found
            share = "" if np.isnan(found["edited"]) else f"{found['edited']:.0%}"
            lines.append(
                f"| {camera} | {LABELS[column]} | {share} "
                f"| {found['psnr']:.2f} ± {found['psnr_deviation']:.2f} | {found['color']:.3f} "
                f"| {1000 * found['kid']:.0f} | {found['kid_stride8']:.0f} |"
            )
    report("twin_distance", options.seed, results, "\n".join(lines))


if __name__ == "__main__":
    main()
