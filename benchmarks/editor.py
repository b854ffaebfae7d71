"""The embedded editor against three alternatives, on styles and scenes that no training saw.

The styles are new ones (seeds from 50,000): neither the editor's training, nor the judge's, nor the
choice of settings saw them. For each of 64 styles four frames are edited, with the photos of four
*other* scenes of that style as references. The target of a frame is its own scene path-traced in
the style.

    python benchmarks/editor.py --render

``--render`` renders the pairs that are missing (three minutes on two cores).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import report
from numpy.typing import NDArray
from other_encoder import OtherFeatures
from PIL import Image
from tables.editing_tables import editor_table

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editor import Editor
from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.evaluation.baselines import HistogramEditor, IdentityEditor, ReinhardEditor
from spie_robo.evaluation.distances import perceptual_distance, psnr
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.evaluation.realism import kernel_distance
from spie_robo.guard import GeometryGuard
from spie_robo.pretraining.pairs import PairsConfig, load_pairs, render_pairs
from spie_robo.types import RGB, Frame, ImageEditor

SHARDS = 4
FIRST_STYLE = 50_000
UNJUDGED = np.array([np.nan])
"""The targets are no edits: no guard is asked."""
EDITED_PER_STYLE = 4


@dataclass(frozen=True, eq=False)
class Lab:
    """One style: frames to edit, their targets, and photos of other scenes."""

    style: int
    frames: list[Frame]
    targets: list[RGB]
    photos: list[RGB]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method made of all labs; one value a frame where not said otherwise."""

    edits: list[list[RGB]]
    accepted: NDArray[np.bool_] | NDArray[np.float64]
    accepted_after_retry: NDArray[np.bool_] | NDArray[np.float64]
    seconds: float


def rendered_labs(folder: str, shards: range) -> list[Lab]:
    """The labs of some shards; geometry comes from the simulator, by the scenes' seeds."""
    pairs = load_pairs(folder, shards)
    sampler = SceneSampler()
    labs = []
    for style in np.unique(pairs["style_id"]):
        rows = np.flatnonzero(pairs["style_id"] == style)
        edited, others = rows[:EDITED_PER_STYLE], rows[EDITED_PER_STYLE:]
        frames = [sampler.sample(int(pairs["scene_id"][row])).frame for row in edited]
        for frame, row in zip(frames, edited, strict=True):
            if not np.array_equal(frame.rgb, pairs["simulator_rgb"][row]):
                raise SystemExit(
                    f"Scene {pairs['scene_id'][row]} is not the one that was rendered."
                )
        labs.append(
            Lab(
                int(style),
                frames,
                [pairs["twin_rgb"][row] for row in edited],
                [pairs["twin_rgb"][row] for row in others],
            )
        )
    sampler.close()
    return labs


def run(editor: ImageEditor, labs: Sequence[Lab], seed: int) -> Outcome:
    """Edit every frame and judge every edit."""
    guard = GeometryGuard()
    edits, accepted, retried, started = [], [], [], time.perf_counter()
    for lab in labs:
        seeds = [seed * 1000 + index for index in range(len(lab.frames))]
        made = editor.edit(lab.frames, lab.photos, None, seeds)
        edits.append([edit.rgb for edit in made])
        verdicts = guard.judge_batch(lab.frames, made)
        accepted += [verdict.accepted for verdict in verdicts]
        rejected = [i for i, verdict in enumerate(verdicts) if not verdict.accepted]
        second = [True] * len(lab.frames)
        if rejected:
            again = GuardedEditor(editor, guard, lab.photos, retries=0).edit(
                [lab.frames[i] for i in rejected], [seeds[i] + 1 for i in rejected]
            )
            for index, result in zip(rejected, again, strict=True):
                second[index] = result.edited
        retried += second
    seconds = time.perf_counter() - started
    return Outcome(edits, np.array(accepted), np.array(retried), seconds)


def measure(outcome: Outcome, labs: Sequence[Lab], seed: int) -> dict[str, float]:
    """The row of one method; intervals are 95 % bootstrap intervals over styles."""
    per_style = {"psnr": [], "perceptual": [], "gradients": []}
    for lab, edits in zip(labs, outcome.edits, strict=True):
        per_style["psnr"].append(
            np.mean([psnr(*pair) for pair in zip(edits, lab.targets, strict=True)])
        )
        per_style["perceptual"].append(np.mean(perceptual_distance(edits, lab.targets)))
        per_style["gradients"].append(
            np.mean([gradient_ratio(*pair) for pair in zip(edits, lab.targets, strict=True)])
        )
    all_edits = [edit for edits in outcome.edits for edit in edits]
    all_photos = [photo for lab in labs for photo in lab.photos]
    kid = kernel_distance(all_edits, all_photos, seed=seed)
    other = kernel_distance(all_edits, all_photos, seed=seed, extractor=OtherFeatures())
    row = {"kid": kid.mean, "kid_deviation": kid.deviation}
    row |= {"kid_other": other.mean, "kid_other_deviation": other.deviation}
    for name, values in per_style.items():
        low, high = _bootstrap(np.array(values), seed)
        row |= {name: float(np.mean(values)), f"{name}_low": low, f"{name}_high": high}
    row["accepted"] = float(outcome.accepted.mean())
    row["accepted_after_retry"] = float(outcome.accepted_after_retry.mean())
    row["seconds_per_frame"] = outcome.seconds / len(all_edits)
    return row


def _bootstrap(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def with_steps(editor: Editor, steps: int) -> Editor:
    """The same editor with another number of denoising steps."""
    settings = replace(editor.settings, steps=steps)
    return Editor(editor.pipeline, editor.name, settings, editor.references)


def save_grid(path: Path, labs: Sequence[Lab], outcomes: dict[str, Outcome], count: int) -> None:
    """Rows: raw, each method, target, one reference; columns: every so-manieth lab."""
    chosen = np.linspace(0, len(labs) - 1, count).astype(int)
    columns = []
    for index in chosen:
        made = [outcome.edits[index][0] for outcome in outcomes.values()]
        columns.append(np.vstack([*made, labs[index].targets[0], labs[index].photos[0]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack(columns)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", default="runs/pairs_test")
    parser.add_argument("--first-style", type=int, default=FIRST_STYLE)
    parser.add_argument("--editor", default="embedded")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", type=Path, default=Path("out/editor_grid.png"))
    parser.add_argument("--render", action="store_true", help="render the held-out shards first")
    options = parser.parse_args()
    shards = range(options.shards)
    if options.render:
        render_pairs(
            PairsConfig(folder=options.pairs, shards=options.shards, first_seed=options.first_style)
        )
    labs = rendered_labs(options.pairs, shards)
    embedded = Editor.from_pretrained(options.editor)
    methods: dict[str, ImageEditor] = {
        "raw frame": IdentityEditor(),
        "match_histograms": HistogramEditor(),
        "Reinhard": ReinhardEditor(),
    }
    methods |= {f"{options.editor}, {n} steps": with_steps(embedded, n) for n in options.steps}
    outcomes, rows = {}, {}
    for name, method in methods.items():
        outcomes[name] = run(method, labs, options.seed)
        rows[name] = measure(outcomes[name], labs, options.seed)
        print(name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    save_grid(options.grid, labs, outcomes, count=8)
    rows["target itself"] = measure(
        Outcome([lab.targets for lab in labs], UNJUDGED, UNJUDGED, 0.0), labs,
        options.seed,
    )  # fmt: skip
    frames = sum(len(lab.frames) for lab in labs)
    found = {"styles": len(labs), "frames": frames, **rows}
    report("editor", options.seed, found, editor_table(rows))


if __name__ == "__main__":
    main()
