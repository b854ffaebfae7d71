"""Calibrate the guard: known distortions detected against clean restylings falsely rejected.

Reads rendered pairs of styles that the judge was not trained on. The edit under judgement is the
twin's picture: untouched (a clean restyling, which must be accepted) or with one known distortion
(which must be rejected). The limits are chosen on half of the styles and rated on the other half:
each limit is a quantile of the clean measurements, and the quantiles are traded off so that as many
distortions as possible are detected within an allowed share of false rejections.

    python benchmarks/guard_calibration.py --pairs runs/pairs --write
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from spie_robo.guard import deviations, distortions
from spie_robo.guard.budget import AT_MOST, BUDGET_FILE, DEVIATION_NAMES
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.distortions import LabelledImage
from spie_robo.guard.guard import GeometryGuard
from spie_robo.guard.judge import WEIGHTS, GeometryJudge
from spie_robo.pretraining.shards import Pair, PairShards
from spie_robo.types import Frame, Geometry

RESULT = Path(__file__).parent / "results" / "guard_calibration.json"
GEOMETRIC = tuple(name for name in DEVIATION_NAMES if name != "chroma_drift")
CHROMA_QUANTILE = 0.95
TAILS = (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12)
ALLOWED = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)

Measured = NDArray[np.float64]
Generator = np.random.Generator
Distort = Callable[[LabelledImage, LabelledImage, Generator], LabelledImage | None]


@dataclass(frozen=True)
class Point:
    """One point of the curve: rates in 0..1, measured on styles that chose nothing."""

    allowed: float
    false_reject: float
    false_reject_softened: float
    detected: dict[str, float]
    limits: dict[str, float]


def on_object(
    change: Callable[[LabelledImage, NDArray[np.bool_], Generator], LabelledImage],
) -> Distort:
    """Apply a change to a random object; None where the picture has none."""

    def apply(image: LabelledImage, _: LabelledImage, generator: Generator) -> LabelledImage | None:
        masks = distortions.object_masks(image)
        if not masks:
            return None
        return change(image, masks[int(generator.integers(len(masks)))], generator)

    return apply


def insert(
    image: LabelledImage, donor: LabelledImage, generator: Generator
) -> LabelledImage | None:
    masks = distortions.object_masks(donor)
    if not masks:
        return None
    mask = masks[int(generator.integers(len(masks)))]
    return distortions.insert(image, donor, mask, generator)


def shift(pixels: float) -> Distort:
    return on_object(lambda i, m, g: distortions.shift(i, m, pixels, g, "navier-stokes"))


def scale(factor: float) -> Distort:
    return on_object(lambda i, m, _: distortions.scale(i, m, factor, "navier-stokes"))


DISTORTIONS: dict[str, Distort] = {
    "shifted 3 px": shift(3),
    "shifted 6 px": shift(6),
    "shifted 12 px": shift(12),
    "scaled +10 %": scale(1.10),
    "scaled -10 %": scale(0.90),
    "scaled +25 %": scale(1.25),
    "scaled -25 %": scale(0.75),
    "removed": on_object(lambda i, m, _: distortions.remove(i, m, "navier-stokes")),
    "inserted": insert,
    "warped 4 px": lambda i, _, g: distortions.warp(i, 4, g),
    "warped 8 px": lambda i, _, g: distortions.warp(i, 8, g),
}


def frame_of(pair: Pair) -> Frame:
    """The simulator's frame with its geometry, as the guard sees it."""
    names = {int(c): c.name.lower() for c in GeometryClass}
    classes = pair.simulator.classes.astype(np.int32)
    return Frame(pair.simulator.rgb, "front", Geometry(pair.simulator.depth, classes, names))


def soften(rgb: NDArray[np.uint8], generator: Generator) -> NDArray[np.uint8]:
    """Up to a pixel of blur and some noise: what a learned editor adds to a clean restyling."""
    blurred = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 0.2 + 0.8 * generator.random())
    noisy = blurred + generator.normal(0, 4 * generator.random(), rgb.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def measure(guard: GeometryGuard, pairs: Sequence[Pair], seed: int) -> dict[str, Measured]:
    """Measurements by kind of edit, (pairs, deviations) each; infinite where not applicable."""
    kinds = ("clean", "softened", *DISTORTIONS)
    rows: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in kinds}
    skipped = (np.inf,) * len(DEVIATION_NAMES)
    for index, pair in enumerate(tqdm(pairs, unit="frame")):
        frame, edits = frame_of(pair), {"clean": pair.twin.rgb}
        edits["softened"] = soften(pair.twin.rgb, np.random.default_rng((seed, index)))
        for number, (name, distort) in enumerate(DISTORTIONS.items()):
            generator = np.random.default_rng((seed, index, number))
            donor = pairs[int(generator.integers(len(pairs)))].twin
            changed = distort(pair.twin, donor, generator)
            if changed is not None:
                edits[name] = changed.rgb
        found = guard.measure_batch([frame] * len(edits), list(edits.values()))
        measured = dict(zip(edits, found, strict=True))
        for kind in kinds:
            rows[kind].append(measured.get(kind, skipped))
    return {kind: np.array(values) for kind, values in rows.items()}


def limits_at(clean: Measured, tails: dict[str, float]) -> dict[str, float]:
    """The limits that all but a share of the clean restylings keep, each taken alone."""
    limits = {}
    for name in GEOMETRIC:
        values = clean[:, DEVIATION_NAMES.index(name)]
        limits[name] = float(
            np.nanquantile(values, 1.0 - tails[name] if AT_MOST[name] else tails[name])
        )
    return limits


def rejected(measured: Measured, limits: dict[str, float]) -> float:
    """Share of measurements that break any limit; NaN breaks none, skipped rows do not count."""
    measured = measured[~np.isposinf(measured).all(axis=1)]
    broken = np.zeros(len(measured), np.bool_)
    for name, limit in limits.items():
        values = measured[:, DEVIATION_NAMES.index(name)]
        broken |= values > limit if AT_MOST[name] else values < limit
    return float(broken.mean()) if len(broken) else 0.0


def choose_tails(measured: dict[str, Measured], allowed: float) -> dict[str, float]:
    """Give each deviation its share of the allowed false rejections.

    Coordinate ascent on the mean detection rate, from every even sharing that is allowed: one
    start would let the first deviation take the whole allowance.
    """

    def detected(tails: dict[str, float]) -> float:
        limits = limits_at(measured["clean"], tails)
        if rejected(measured["clean"], limits) > allowed:
            return -1.0
        return float(np.mean([rejected(measured[name], limits) for name in DISTORTIONS]))

    results = []
    for start in (tail for tail in TAILS if tail <= allowed):
        tails = dict.fromkeys(GEOMETRIC, start)
        for _ in range(3):
            for name in GEOMETRIC[::-1]:
                tails = max(({**tails, name: tail} for tail in TAILS), key=detected)
        results.append(tails)
    return max(results, key=detected)


def curve_of(fit: dict[str, Measured], test: dict[str, Measured]) -> list[Point]:
    points = []
    for allowed in ALLOWED:
        limits = limits_at(fit["clean"], choose_tails(fit, allowed))
        rates = {kind: rejected(rows, limits) for kind, rows in test.items()}
        clean, softened = rates.pop("clean"), rates.pop("softened")
        points.append(Point(allowed, clean, softened, rates, limits))
    return points


def chroma_limit(pairs: Sequence[Pair]) -> float:
    """What another lamp alone does to the objects' mean colour."""
    drifts = [
        deviations.chroma_drift(
            p.simulator.rgb, p.twin.rgb, p.simulator.classes == GeometryClass.OBJECT
        )
        for p in pairs
    ]
    return float(np.nanquantile(drifts, CHROMA_QUANTILE))


def table(points: Sequence[Point]) -> str:
    """Markdown: a row a distortion, a column a point of the curve, in per cent."""

    def row(name: str, values: Sequence[float]) -> str:
        return f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |"

    lines = [row("false rejections allowed, %", [p.allowed for p in points])]
    lines.append("|---" * (len(points) + 1) + "|")
    lines.append(row("clean restylings rejected", [p.false_reject for p in points]))
    lines.append(row("softened restylings rejected", [p.false_reject_softened for p in points]))
    lines += [row(f"{n} detected", [p.detected[n] for p in points]) for n in DISTORTIONS]
    return "\n".join(lines)


def select_pairs(shards: PairShards, frames: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Held-out pairs in two halves that share no style."""
    held_out = shards.split("held-out")
    chosen = np.sort(np.random.default_rng(seed).permutation(held_out)[:frames])
    styles = np.unique(shards.styles[chosen])
    first = np.isin(shards.styles[chosen], styles[::2])
    fit, test = ([shards[int(i)] for i in chosen[part]] for part in (first, ~first))
    return fit, test


def measure_halves(
    guard: GeometryGuard,
    fit_pairs: Sequence[Pair],
    test_pairs: Sequence[Pair],
    seed: int,
    kept: Path | None,
) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Measure both halves: minutes, where choosing limits from the result takes seconds."""
    halves = ("fit", "test")
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            names = ("clean", "softened", *DISTORTIONS)
            fit, test = ({n: arrays[f"{half}/{n}"] for n in names} for half in halves)
        return fit, test
    fit, test = measure(guard, fit_pairs, seed), measure(guard, test_pairs, seed + 1)
    if kept is not None:
        both = zip(halves, (fit, test), strict=True)
        np.savez(kept, **{f"{half}/{n}": rows for half, all_ in both for n, rows in all_.items()})
    return fit, test


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path("runs/pairs"))
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allowed", type=float, default=0.03, choices=ALLOWED)
    parser.add_argument("--measured", type=Path, help="keep measurements here, reuse them if there")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--write", action="store_true", help="make the result the default budget")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    start = time.perf_counter()
    fit_pairs, test_pairs = select_pairs(
        PairShards(arguments.pairs), arguments.frames, arguments.seed
    )
    guard = GeometryGuard(estimator=GeometryJudge.load(arguments.judge))
    fit, test = measure_halves(guard, fit_pairs, test_pairs, arguments.seed, arguments.measured)
    points = curve_of(fit, test)
    best = next(point for point in points if point.allowed == arguments.allowed)
    limits = {**best.limits, "chroma_drift": chroma_limit(fit_pairs)}
    result = {
        "command": "python benchmarks/guard_calibration.py",
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "seed": arguments.seed,
        "frames_to_choose_limits": len(fit_pairs),
        "frames_to_rate_them": len(test_pairs),
        "seconds": round(time.perf_counter() - start, 1),
        "default": {**asdict(best), "limits": limits},
        "curve": [asdict(point) for point in points],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.write:
        kept = {"limits": limits, **{k: v for k, v in asdict(best).items() if k != "limits"}}
        BUDGET_FILE.write_text(json.dumps(kept, indent=2) + "\n")
    print(table(points))
    print(f"\nDefault limits (allowed {arguments.allowed:.1%}):")
    print({name: round(value, 3) for name, value in limits.items()})
    print(
        f"{result['machine']}; seed {arguments.seed}; {len(fit_pairs)} + {len(test_pairs)} frames"
    )


if __name__ == "__main__":
    main()
