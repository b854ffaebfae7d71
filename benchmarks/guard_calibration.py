"""Calibrate the guard on several simulators: harmless edits falsely rejected, harmful ones caught.

Every second state of each simulator chooses the limits, the others rate them, and so do the frames
of ``../shared/frames``, which chose nothing. Each limit is the value that all but a share of the
harmless edits keep on the simulator where they keep it least, and no less than a floor.

    python benchmarks/guard_states.py fetch ... --out runs/guard_states   # see its docstring
    python benchmarks/guard_calibration.py --states runs/guard_states --write
    python benchmarks/tools/render_tables.py
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import guard_edits as edits
import numpy as np
import torch
from scipy.stats import binomtest
from tqdm import tqdm

from spie_robo.guard import GuardBudget
from spie_robo.guard.budget import AT_LEAST, BUDGET_FILE, DEVIATION_NAMES
from spie_robo.guard.guard import GeometryGuard
from spie_robo.guard.measuring import MEASURED
from spie_robo.guard.outlines import REFERENCE_WIDTH
from spie_robo.guard.roles import roles_in
from spie_robo.types import RGB, Frame, Geometry

RESULT = Path(__file__).parent / "results" / "guard_calibration.json"
SHARED = Path(__file__).parents[2] / "shared" / "frames"
SIMULATORS = (
    "own",
    "fetch",
    "metaworld",
    "robosuite_Lift",
    "robosuite_PickPlace",
    "panda_gym",
    "aloha",
)
SIZES = (128, 256)
TAILS = {"relit": 0.99, "restyled": 0.97}
"""Share of a simulator's harmless edits that keep each limit, where limits are chosen."""
FLOORS = {
    "outline": 0.7, "moved_px": 1.0, "resized_px": 0.08, "warped_px": 0.75, "inserted": 2.5,
    "added": 5.0, "swapped": 0.5,
}  # fmt: skip
"""No limit is stricter, whatever the states that were seen."""
VISIBLE = 12.0
"""Objects whose removal changes their pixels by less on average are left alone, in grey levels:
nobody could tell that anything was done to them."""
SMALLEST_OBJECT = 10.0
"""Objects with a smaller silhouette are left alone, in square pixels of a frame 128 wide."""
CHROMA_DRIFT = 22.9
"""Of the first calibration: what another lamp did to objects' colours in 95 % of 203 frames."""


@dataclass(frozen=True, eq=False)
class State:
    """One state of a simulator: its frame and, for our own tasks, path-traced twins of it."""

    simulator: str
    frame: Frame
    twins: tuple[RGB, ...] = ()


@dataclass(frozen=True, eq=False)
class Row:
    """One measured edit."""

    simulator: str
    size: int
    half: str
    kind: str
    base: str
    truth: bool
    radius: float
    values: tuple[float, ...]

    @property
    def harmless(self) -> bool:
        """Whether nothing moved in this edit."""
        return self.kind in (*edits.LIGHTS, "restyled", "embedded")


@dataclass
class Rate:
    """How many of how many, with a Wilson interval of 95 %."""

    hits: int = 0
    total: int = 0
    interval: tuple[float, float] = field(default=(0.0, 1.0))

    @classmethod
    def of(cls, flags: Sequence[bool]) -> Rate:
        """Count flags."""
        if not flags:
            return cls()
        found = binomtest(int(sum(flags)), len(flags)).proportion_ci(method="wilson")
        return cls(int(sum(flags)), len(flags), (float(found.low), float(found.high)))

    def __str__(self) -> str:
        """Per cent, and how many of how many."""
        return (
            f"{100 * self.hits / self.total:.0f} ({self.hits}/{self.total})" if self.total else "-"
        )


def read_states(path: Path, simulator: str, width: int | None = None) -> list[State]:
    """Read an ``.npz`` of the format of ``../shared/frames``, resized to a width on request."""
    states = []
    with np.load(path) as arrays:
        for i in range(int(arrays["n"])):
            rgb, meta = arrays[f"{i}/rgb"], json.loads(str(arrays[f"{i}/meta"]))
            depth, ids = arrays[f"{i}/depth"], arrays[f"{i}/seg"]
            if width is not None and rgb.shape[1] != width:
                size = (width, round(rgb.shape[0] * width / rgb.shape[1]))
                rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
                depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
                ids = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
            names = {int(k): v for k, v in meta["names"].items()}
            twins = tuple(arrays[key] for key in arrays.files if key.startswith(f"{i}/twin"))
            frame = Frame(rgb, meta["camera"], Geometry(depth, ids, names))
            states.append(State(simulator, frame, twins))
    return states


@dataclass(frozen=True, eq=False)
class Regions:
    """Where a frame has objects, and surfaces to restyle and to put things on."""

    objects: list[np.ndarray]
    surfaces: list[np.ndarray]
    places: np.ndarray


def regions_of(frame: Frame) -> Regions:
    assert frame.geometry is not None and frame.geometry.segmentation is not None
    ids, names = frame.geometry.segmentation, frame.geometry.names
    pixels = frame.rgb.shape[1] / REFERENCE_WIDTH
    objects: list[np.ndarray] = []
    surfaces: dict[str, np.ndarray] = {}
    table: list[np.ndarray] = []
    things: dict[str, np.ndarray] = {}
    for number, role in roles_in(ids, names, None, frame.geometry.depth).items():
        mask = ids == number
        if role == "object":
            # Parts of one name are one thing: half a drawer is no object.
            key = names.get(number, str(number))
            things[key] = things.get(key, np.zeros(ids.shape, np.bool_)) | mask
        elif role in ("surface", "background"):
            key = names.get(number, "nothing" if number <= 0 else str(number))
            surfaces[key] = surfaces.get(key, np.zeros(ids.shape, np.bool_)) | mask
            table += [mask] if role == "surface" else []
    for mask in things.values():
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= SMALLEST_OBJECT * pixels**2) + 1
        objects += [labels == i for i in large if _visible(frame.rgb, labels == i)]
    places = np.any(table, axis=0) if table else np.any(list(surfaces.values()), axis=0)
    near = cv2.erode(places.astype(np.uint8), np.ones((2 * round(4 * pixels) + 1,) * 2, np.uint8))
    return Regions(objects, list(surfaces.values()), near > 0 if near.any() else places)


def _visible(rgb: RGB, mask: np.ndarray) -> bool:
    """Whether a picture without the object would look different."""
    change = np.abs(edits.filled(rgb, mask)[mask].astype(float) - rgb[mask])
    return bool(change.max(axis=-1).mean() >= VISIBLE)


def harmless(state: State, regions: Regions, g: np.random.Generator) -> Iterator[tuple[str, RGB]]:
    rgb = state.frame.rgb
    for kind in edits.LIGHTS:
        yield kind, edits.relight(rgb, kind, g)
    restyled = state.twins or [edits.restyle(rgb, regions.surfaces, g) for _ in range(2)]
    yield from (("restyled", image) for image in restyled)


def harmful(
    base: RGB, regions: Regions, g: np.random.Generator
) -> Iterator[tuple[str, RGB, np.ndarray | None]]:
    """Each kind of harm once, done to a random object where it is done to an object."""
    width = base.shape[1]
    yield "frame shifted 2 %", edits.frame_shifted(base, 0.02 * width, g), None
    yield "warped 3 %", edits.warped(base, 0.03 * width, g), None
    if not regions.objects:
        return
    order = g.permutation(len(regions.objects))
    mask = regions.objects[order[0]]
    yield "shifted 2 %", edits.shifted(base, mask, 0.02 * width, g), mask
    yield "shifted 4 %", edits.shifted(base, mask, 0.04 * width, g), mask
    yield "scaled +10 %", edits.scaled(base, mask, 1.1), mask
    yield "scaled -10 %", edits.scaled(base, mask, 0.9), mask
    yield "removed", edits.filled(base, mask), mask
    yield "melted", edits.melted(base, mask), mask
    yield "inserted", edits.inserted(base, mask, regions.places, False, g), mask
    yield "inserted, own colour", edits.inserted(base, mask, regions.places, True, g), mask
    if len(order) > 1:
        yield "swapped", edits.swapped(base, mask, regions.objects[order[1]]), mask


def measure_state(
    guard: GeometryGuard, state: State, half: str, g: np.random.Generator, bare: bool
) -> Iterator[Row]:
    """Measure all edits of a state, with its geometry and, on request, without."""
    frame, regions = state.frame, regions_of(state.frame)
    made = [(kind, "", image, 0.0) for kind, image in harmless(state, regions, g)]
    bases = {"relit": edits.relight(frame.rgb, "mixed", g), "restyled": made[-1][2]}
    for base, picture in bases.items():
        for kind, image, mask in harmful(picture, regions, g):
            radius = 0.0 if mask is None else float(np.sqrt(mask.sum() / np.pi))
            made.append((kind, base, image, radius * REFERENCE_WIDTH / frame.rgb.shape[1]))
    pictures = [image for _, _, image, _ in made]
    for truth in (True, False) if bare else (True,):
        held = frame if truth else Frame(frame.rgb, frame.camera)
        values = guard.measure_batch([held] * len(made), pictures)
        for (kind, base, _, radius), found in zip(made, values, strict=True):
            size = frame.rgb.shape[1]
            yield Row(state.simulator, size, half, kind, base, truth, radius, found)


def measure_all(folder: Path, seed: int, states: int) -> list[Row]:
    guard, rows = GeometryGuard(), []
    jobs: list[tuple[State, str]] = []
    for simulator in SIMULATORS:
        for size in SIZES:
            if (file := folder / f"{simulator}_{size}.npz").exists():
                # A picture of four times the pixels takes four times as long.
                number = 2 * (states if size == SIZES[0] else states // 2)
                own = read_states(file, simulator)[:number]
                jobs += [(state, ("fit", "test")[i % 2]) for i, state in enumerate(own)]
            if (file := SHARED / f"{simulator}.npz").exists():
                shared = read_states(file, simulator, size)
                step = max(1, 2 * len(shared) // states)
                jobs += [(state, "test") for state in shared[::step][: states // 2]]
    for number, (state, half) in enumerate(tqdm(jobs, unit="state")):
        generator = np.random.default_rng((seed, number))
        rows += measure_state(guard, state, half, generator, bare=half == "test")
    return rows


def choose_limits(rows: Sequence[Row]) -> dict[str, float]:
    """The limits that the harmless edits of the states for it keep; see the module's docstring."""
    limits = {}
    for name in MEASURED:
        column, sign = DEVIATION_NAMES.index(name), -1.0 if name in AT_LEAST else 1.0
        worst = -np.inf
        for simulator in SIMULATORS:
            # Apart: there are more changes of light, and they keep every limit.
            for group, tail in TAILS.items():
                values = [
                    sign * row.values[column]
                    for row in rows
                    if row.half == "fit"
                    and row.harmless
                    and row.simulator == simulator
                    and (row.kind == "restyled") == (group == "restyled")
                ]
                known = np.array(values)[~np.isnan(values)]
                if len(known):
                    worst = max(worst, float(np.quantile(known, tail)))
        limits[name] = round(sign * max(worst, sign * FLOORS[name]), 3)
    return {**limits, "chroma_drift": CHROMA_DRIFT}


def rejected(row: Row, limits: Mapping[str, float]) -> bool:
    """Whether a measured edit breaks any limit; what was not measured breaks none."""
    budget = GuardBudget(**limits)
    for name, value in zip(DEVIATION_NAMES, row.values, strict=True):
        limit = budget.limit(name, not row.truth)
        if not np.isnan(value) and (value < limit if name in AT_LEAST else value > limit):
            return True
    return False


def rates(rows: Sequence[Row], limits: Mapping[str, float]) -> dict[str, dict[str, Rate]]:
    """Per row of the table (simulator, size, with geometry or not) and kind: how often rejected."""
    cells: dict[str, dict[str, list[bool]]] = {}
    for row in rows:
        if row.half != "test":
            continue
        where = "with" if row.truth else "without"
        names = [f"{row.simulator}, {row.size} px, {where}", f"all, {row.size} px, {where}"]
        kinds = ["relit" if row.kind in edits.LIGHTS else row.kind]
        if row.base:
            kinds = [f"{row.kind} / {row.base}"]
            if row.kind.startswith("scaled") and row.radius >= 4:
                kinds.append(f"{row.kind}, radius 4 px or more / {row.base}")
        for name in names:
            for kind in kinds:
                cells.setdefault(name, {}).setdefault(kind, []).append(rejected(row, limits))
    return {
        name: {kind: Rate.of(flags) for kind, flags in of_kind.items()}
        for name, of_kind in cells.items()
    }


def table(found: Mapping[str, Mapping[str, Rate]], kinds: Sequence[str]) -> str:
    """Markdown: a row a simulator and size, a column a kind, per cent rejected of how many."""
    lines = ["| | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name, of_kind in found.items():
        lines.append(f"| {name} | " + " | ".join(str(of_kind.get(k, Rate())) for k in kinds) + " |")
    return "\n".join(lines)


def embedded(folder: Path, limits: Mapping[str, float], states: int) -> dict[str, Rate]:
    """How many embedded edits of each simulator are rejected."""
    from spie_robo import Editor

    editor = Editor.from_pretrained("embedded")
    guard = GeometryGuard(GuardBudget(**limits))
    found = {}
    for simulator in SIMULATORS:
        frames = [s.frame for s in read_states(folder / f"{simulator}_128.npz", simulator)]
        frames = frames[1 : 2 * states : 2]
        made = editor.edit(frames, seeds=list(range(len(frames))))
        verdicts = guard.judge_batch(frames, made)
        found[simulator] = Rate.of([not verdict.accepted for verdict in verdicts])
    return found


_TIMED = """
import json, sys, time
import numpy as np, torch
from spie_robo.guard import GeometryGuard
from spie_robo.types import EditResult, Frame, Geometry
torch.set_num_threads(1)
frames, results = [], []
with np.load(sys.argv[1]) as arrays:
    for i in range(int(arrays["n"])):
        names = {int(k): v for k, v in json.loads(str(arrays[f"{i}/meta"]))["names"].items()}
        rgb = arrays[f"{i}/rgb"]
        frames.append(Frame(rgb, "c", Geometry(arrays[f"{i}/depth"], arrays[f"{i}/seg"], names)))
        results.append(EditResult((rgb * 0.9).astype(np.uint8), 0, "", "x", 1))
guard = GeometryGuard()
guard.judge_batch(frames, results)
start = time.process_time()
guard.judge_batch(frames, results)
print(1000 * (time.process_time() - start) / len(frames))
"""


def milliseconds(folder: Path, old: Path | None, repeats: int = 2) -> dict[str, list[float]]:
    """CPU milliseconds a 128x128 frame, one thread, in turn with an older version's guard."""
    roots = {"this": Path(__file__).parents[1], **({"old": old} if old else {})}
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for simulator in ("own", "robosuite_PickPlace"):
            for name, root in roots.items():
                environment = {
                    "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"
                }  # fmt: skip
                command = [sys.executable, "-c", _TIMED, str(folder / f"{simulator}_128.npz")]
                said = subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True, cwd=root
                )
                found.setdefault(f"{name}, {simulator}", []).append(float(said.stdout))
    return found


def _as_json(found: Mapping[str, Mapping[str, Rate]]) -> dict[str, Any]:
    return {
        name: {
            kind: [r.hits, r.total, *map(lambda x: round(x, 4), r.interval)]
            for kind, r in of.items()
        }
        for name, of in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=Path, default=Path("runs/guard_states"))
    parser.add_argument("--per-half", type=int, default=8, help="states a simulator and half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--old", type=Path, help="checkout of an older version, to time its guard")
    parser.add_argument("--kept", type=Path, help="keep measurements here, reuse them if there")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--write", action="store_true", help="make the limits the default budget")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    start = time.perf_counter()
    rows = _measured(arguments)
    limits = choose_limits(rows)
    found = rates(rows, limits)
    result = {
        "command": "python benchmarks/guard_calibration.py",
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "seed": arguments.seed,
        "states_a_half": arguments.per_half,
        "limits": limits,
        "rejected": _as_json(found),
        "embedded_rejected": _as_json(
            {"128 px": embedded(arguments.states, limits, arguments.per_half)}
        ),
        "milliseconds_a_frame": milliseconds(arguments.states, arguments.old),
        "seconds": round(time.perf_counter() - start, 1),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.write:
        BUDGET_FILE.write_text(json.dumps({"limits": limits}, indent=2) + "\n")
    report(result, found)


def _measured(arguments: argparse.Namespace) -> list[Row]:
    kept: Path | None = arguments.kept
    if kept is not None and kept.exists():
        return [
            Row(**{**one, "values": tuple(one["values"])}) for one in json.loads(kept.read_text())
        ]
    rows = measure_all(arguments.states, arguments.seed, arguments.per_half)
    if kept is not None:
        kept.write_text(json.dumps([row.__dict__ for row in rows]))
    return rows


def report(result: Mapping[str, Any], found: Mapping[str, Mapping[str, Rate]]) -> None:
    """Print the tables."""
    kinds = list(dict.fromkeys(kind for of_kind in found.values() for kind in of_kind))
    plain = table(found, [kind for kind in kinds if "/" not in kind])
    print(plain, "\n")
    for base in ("relit", "restyled"):
        chosen = [kind for kind in kinds if kind.endswith(f"/ {base}")]
        short = {
            n: {k.split(" / ")[0]: r for k, r in of.items() if k in chosen}
            for n, of in found.items()
        }
        text = table(short, [kind.split(" / ")[0] for kind in chosen])
        print(text, "\n")
    print(result["limits"])
    print(
        {k: [round(v, 2) for v in values] for k, values in result["milliseconds_a_frame"].items()}
    )
    print(result["embedded_rejected"])
    print(f"{result['machine']}; seed {result['seed']}; {result['seconds']} s")


if __name__ == "__main__":
    main()
