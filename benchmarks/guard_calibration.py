"""Calibrate the guard: known distortions detected against clean restylings falsely rejected.

Reads rendered pairs of held-out styles. The edit under judgement is always the twin's picture:
untouched (a clean restyling, which must be accepted) or with one known distortion (which must be
rejected). One quantile of the clean measurements sets all limits at once; sweeping it gives the
curve, and the quantile whose false-reject rate is nearest below the target gives the budget.

    python benchmarks/guard_calibration.py --pairs runs/pairs --write
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spie_robo.guard import deviations, distortions
from spie_robo.guard.budget import AT_MOST, BUDGET_FILE, DEVIATION_NAMES
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.guard import GeometryGuard
from spie_robo.guard.judge import WEIGHTS, GeometryJudge
from spie_robo.pretraining.shards import Pair, PairShards
from spie_robo.types import Frame, Geometry

RESULT = Path(__file__).parent / "results" / "guard_calibration.json"
GEOMETRIC = DEVIATION_NAMES[:4]
CHROMA_QUANTILE = 0.95
QUANTILES = (0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 1.0)

Distort = Callable[[LabelledImage, LabelledImage, np.random.Generator], LabelledImage | None]


@dataclass(frozen=True)
class Distortion:
    """A named known change; ``apply`` returns None where a picture offers nothing to change."""

    name: str
    apply: Distort


def _on_object(
    change: Callable[
        [LabelledImage, NDArray[np.bool_], np.random.Generator], LabelledImage
    ],
) -> Distort:
    def apply(
        image: LabelledImage, donor: LabelledImage, generator: np.random.Generator
    ) -> LabelledImage | None:
        masks = distortions.object_masks(image)
        if not masks:
            return None
        return change(image, masks[int(generator.integers(len(masks)))], generator)

    return apply


def _insert(
    image: LabelledImage, donor: LabelledImage, generator: np.random.Generator
) -> LabelledImage | None:
    masks = distortions.object_masks(donor)
    if not masks:
        return None
    mask = masks[int(generator.integers(len(masks)))]
    return distortions.insert(image, donor, mask, generator)


def _shift(pixels: float) -> Distort:
    return _on_object(lambda i, m, g: distortions.shift(i, m, pixels, g, "navier-stokes"))


def _scale(factor: float) -> Distort:
    return _on_object(lambda i, m, _: distortions.scale(i, m, factor, "navier-stokes"))


DISTORTIONS = (
    Distortion("shift 3 px", _shift(3)),
    Distortion("shift 6 px", _shift(6)),
    Distortion("shift 12 px", _shift(12)),
    Distortion("scale +10 %", _scale(1.10)),
    Distortion("scale -10 %", _scale(0.90)),
    Distortion("scale +25 %", _scale(1.25)),
    Distortion("scale -25 %", _scale(0.75)),
    Distortion("removed", _on_object(lambda i, m, _: distortions.remove(i, m, "navier-stokes"))),
    Distortion("inserted", _insert),
    Distortion("warped 4 px", lambda i, _, g: distortions.warp(i, 4, g)),
    Distortion("warped 8 px", lambda i, _, g: distortions.warp(i, 8, g)),
)


def frame_of(pair: Pair) -> Frame:
    """The simulator's frame with its geometry, as the guard sees it."""
    names = {int(c): c.name.lower() for c in GeometryClass}
    geometry = Geometry(
        depth=pair.simulator.depth,
        segmentation=pair.simulator.classes.astype(np.int32),
        names=names,
    )
    return Frame(pair.simulator.rgb, "front", geometry)


def measure(
    guard: GeometryGuard, pairs: Sequence[Pair], seed: int
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Measurements of the clean restylings and of each distortion, (number, deviations) each."""
    frames = [frame_of(pair) for pair in pairs]
    clean = np.array(guard.measure_batch(frames, [pair.twin.rgb for pair in pairs]))
    distorted = {}
    for kind, distortion in enumerate(DISTORTIONS):
        rows = []
        for index, pair in enumerate(pairs):
            generator = np.random.default_rng((seed, kind, index))
            donor = pairs[int(generator.integers(len(pairs)))].twin
            changed = distortion.apply(pair.twin, donor, generator)
            if changed is not None:
                rows += guard.measure_batch([frames[index]], [changed.rgb])
        distorted[distortion.name] = np.array(rows).reshape(-1, len(DEVIATION_NAMES))
    return clean, distorted


def limits_at(clean: NDArray[np.float64], quantile: float) -> dict[str, float]:
    """The limits that this share of the clean restylings keeps, each taken alone."""
    limits = {}
    for column, name in enumerate(GEOMETRIC):
        share = quantile if AT_MOST[name] else 1.0 - quantile
        limits[name] = float(np.nanquantile(clean[:, column], share))
    return limits


def rejected(measured: NDArray[np.float64], limits: dict[str, float]) -> NDArray[np.bool_]:
    """Which measurements break any limit; NaN breaks none."""
    broken = np.zeros(len(measured), np.bool_)
    for column, name in enumerate(DEVIATION_NAMES):
        if name in limits:
            values = measured[:, column]
            broken |= values > limits[name] if AT_MOST[name] else values < limits[name]
    return broken


def chroma_limit(pairs: Sequence[Pair]) -> float:
    """What the twin's lamps alone do to the objects' mean colour."""
    drifts = [
        deviations.chroma_drift(
            p.simulator.rgb, p.twin.rgb, p.simulator.classes == GeometryClass.OBJECT
        )
        for p in pairs
    ]
    return float(np.nanquantile(drifts, CHROMA_QUANTILE))


def calibrate(
    clean: NDArray[np.float64], distorted: dict[str, NDArray[np.float64]], target: float
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The curve, and its point of the highest mean detection within the target false rejects."""
    curve: list[dict[str, object]] = []
    for quantile in QUANTILES:
        limits = limits_at(clean, quantile)
        detected = {n: float(rejected(rows, limits).mean()) for n, rows in distorted.items()}
        curve.append(
            {
                "quantile": quantile,
                "false_reject": float(rejected(clean, limits).mean()),
                "detected": detected,
                "mean_detected": float(np.mean(list(detected.values()))),
                "limits": limits,
            }
        )
    within = [point for point in curve if float(str(point["false_reject"])) <= target]
    return curve, max(within, key=lambda point: float(str(point["mean_detected"])))


def table(curve: list[dict[str, object]], distorted: dict[str, NDArray[np.float64]]) -> str:
    """The curve as a Markdown table: a row a distortion, a column a false-reject rate."""
    rates = [f"{100 * float(str(point['false_reject'])):.1f} %" for point in curve]
    lines = ["| distortion | n | " + " | ".join(rates) + " |"]
    lines.append("|---|---" + "|---" * len(curve) + "|")
    for name, rows in distorted.items():
        shares = [f"{100 * point['detected'][name]:.0f}" for point in curve]  # type: ignore[index]
        lines.append(f"| {name} | {len(rows)} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path("runs/pairs"))
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=0.03, help="allowed false-reject rate")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--write", action="store_true", help="make the result the default budget")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    start = time.perf_counter()
    shards = PairShards(arguments.pairs)
    held_out = shards.split("held-out")
    chosen = np.random.default_rng(arguments.seed).permutation(held_out)[: arguments.frames]
    pairs = [shards[int(index)] for index in np.sort(chosen)]
    half = len(pairs) // 2  # limits come from one half, rates from the other
    guard = GeometryGuard(estimator=GeometryJudge.load(arguments.judge))
    clean, distorted = measure(guard, pairs, arguments.seed)
    curve, best = calibrate(clean, distorted, arguments.target)
    limits = {**best["limits"], "chroma_drift": chroma_limit(pairs)}  # type: ignore[dict-item]
    result = {
        "machine": f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}",
        "seed": arguments.seed,
        "clean_frames": len(clean),
        "seconds": round(time.perf_counter() - start, 1),
        "limits": limits,
        "false_reject": best["false_reject"],
        "detected": best["detected"],
        "curve": curve,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.write:
        kept = {key: result[key] for key in ("limits", "false_reject", "detected", "seed")}
        BUDGET_FILE.write_text(json.dumps(kept, indent=2) + "\n")
    print(table(curve, distorted))
    print(f"\nlimits: {limits}\n{result['machine']}; seed {arguments.seed}; {len(clean)} frames")


if __name__ == "__main__":
    main()
