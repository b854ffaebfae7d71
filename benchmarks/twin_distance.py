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


def frames(store: Path, numbers: list[int]) -> list[RGB]:
    """Frames of the front camera by their number over all episodes."""
    array = EpisodeStore.open(store).array("front_rgb")
    return [array.read(number, number + 1)[0] for number in numbers]


def psnr(one: RGB, other: RGB) -> float:
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


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
    targets = frames(folder / "twin.zarr", numbers)
    results: dict[str, dict[str, float]] = {}
    lines = [
        "| frames | PSNR, dB | colour histogram | KID x 1000 | KID (stride 8) |",
        "|---|---|---|---|---|",
    ]
    for column in COLUMNS:
        edits = frames(folder / f"{column}.zarr", numbers)
        values = [psnr(edit, target) for edit, target in zip(edits, targets, strict=True)]
        hues = np.abs(color_histogram(edits) - color_histogram(targets)).sum() / 2
        kid = kernel_distance(edits, targets, seed=options.seed).mean
        early = kernel_distance(
            edits, targets, seed=options.seed, extractor=PooledFeatures("stride8")
        ).mean
        results[column] = {
            "psnr": float(np.mean(values)), "psnr_deviation": float(np.std(values)),
            "color": float(hues), "kid": kid, "kid_stride8": early,
        }  # fmt: skip
        lines.append(
            f"| {LABELS[column]} | {np.mean(values):.2f} ± {np.std(values):.2f} | {hues:.3f} "
            f"| {1000 * kid:.0f} | {early:.0f} |"
        )
    report("twin_distance", options.seed, results, "\n".join(lines))


if __name__ == "__main__":
    main()
