"""SPIE post-training in labs whose true pictures are known: photoreal twins.

Real photographs say what a lab looks like, not what a frame should have become. Here the lab is a
twin style that no training saw: five twin photos of Push scenes are the references, and the target
of a test frame is its own state path-traced in that style. No reward knows the targets. Frames are
of Reach, from both cameras.

    python benchmarks/post_training_twin.py --variants default --seeds 0

Every cell (lab, variant, seed) is kept in ``runs/post_training_twin``, as are the renderings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from harness import ROOT, limit_threads, report
from PIL import Image
from post_training import CONFIG, VARIANTS, changed, color_histogram

from spie_robo.editor.photo_check import CheckedPhotos, check_photos
from spie_robo.envs.experts import make_expert
from spie_robo.envs.scene_state import SceneState
from spie_robo.envs.tabletop_env import tabletop
from spie_robo.envs.twin import Style, TwinRenderer, find_style, sample_style
from spie_robo.evaluation.distances import psnr
from spie_robo.evaluation.realism import PooledFeatures, kernel_distance
from spie_robo.guard import GeometryGuard
from spie_robo.pretraining.labs import photograph
from spie_robo.settings.yaml_files import load_config
from spie_robo.training.checkpoint import Position, Row
from spie_robo.training.config import TrainConfig
from spie_robo.training.preview import deployed_edits, grid
from spie_robo.training.run import build_trainer
from spie_robo.training.setup import prepare
from spie_robo.types import RGB, EditResult, Frame

LABS = ("oak-lab", "steel-bench", "60000", "60001")
"""Named styles, and seeds of sampled ones; none of them is in the editor's training data."""
CAMERAS = ("front", "wrist")
TEST_FRAMES, TRAINING_FRAMES = 24, 64
MEASURED_AT = (5, 10, 20)
EVERY = 2


@dataclass(frozen=True, eq=False)
class TwinLab:
    """A lab, with the true pictures of the test frames."""

    name: str
    photos: CheckedPhotos
    frames: list[Frame]
    targets: list[RGB]


def style_of(lab: str) -> Style:
    """A style by name or seed."""
    return sample_style(int(lab)) if lab.isdigit() else find_style(lab)


def reach_frames(count: int, seed: int) -> tuple[list[Frame], list[SceneState]]:
    """Frames of the expert at work, both cameras of a moment one after the other, and states."""
    env = gymnasium.make("SpieRobo/Reach-v0")
    expert, episode = make_expert(env), 0
    frames: list[Frame] = []
    states: list[SceneState] = []
    while len(frames) < count:
        observation, info = env.reset(seed=seed + episode)
        expert.reset()
        for step in range(4 * EVERY):
            if step % EVERY == 0:
                for camera in CAMERAS:
                    frames.append(Frame(observation[camera], camera, info["geometry"][camera]))
                    states.append(tabletop(env).scene_state())
            observation, _, terminated, truncated, info = env.step(expert.act(observation))
            if terminated or truncated:
                break
        episode += 1
    env.close()
    return frames[:count], states[:count]


def build_lab(name: str, folder: Path) -> TwinLab:
    """Photos, test frames and their targets; rendered once and kept."""
    photograph(style_of(name), folder / "references")
    frames, states = reach_frames(TEST_FRAMES, 3_000_000)
    kept = folder / "targets.npy"
    if not kept.exists():
        renderer = TwinRenderer(samples=16)
        pictures = [
            renderer.render(state, frame.camera, style_of(name), sensor_noise=False)
            for frame, state in zip(frames, states, strict=True)
        ]
        np.save(kept, np.stack(pictures))
    return TwinLab(name, check_photos(folder / "references"), frames, list(np.load(kept)))


def measure(lab: TwinLab, edits: Sequence[RGB], seed: int) -> dict[str, Row]:
    """How far edits are from the true pictures, for each camera."""
    results = [EditResult(edit, 0, "", "", 0) for edit in edits]
    accepted = [verdict.accepted for verdict in GeometryGuard().judge_batch(lab.frames, results)]
    rows = {}
    for camera in CAMERAS:
        own = [i for i, frame in enumerate(lab.frames) if frame.camera == camera]
        made, true = [edits[i] for i in own], [lab.targets[i] for i in own]
        hues = np.abs(color_histogram(made) - color_histogram(true)).sum() / 2
        light = [np.mean(edit, dtype=float) - np.mean(target, dtype=float)
                 for edit, target in zip(made, true, strict=True)]  # fmt: skip
        rows[camera] = {
            "psnr": float(np.mean([psnr(*pair) for pair in zip(made, true, strict=True)])),
            "color": float(hues),
            "light": float(np.mean(light)),
            "kid": kernel_distance(made, true, seed=seed).mean,
            "kid_stride8": kernel_distance(
                made, true, seed=seed, extractor=PooledFeatures("stride8")
            ).mean,
            "accepted": float(np.mean([accepted[i] for i in own])),
        }
    return rows


def run_cell(lab: TwinLab, variant: str, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, measuring on the way; kept as JSON beside the pictures."""
    path = folder / "cell.json"
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    if path.exists() and json.loads(path.read_text())["settings"] == settings:
        return dict(json.loads(path.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    training, _ = reach_frames(TRAINING_FRAMES, 4_000_000)
    run = prepare(config, lab.photos, lab.frames + training)
    with run.policy.reference():
        base = deployed_edits(run.editor.pipeline, run.preview, run.editor.settings, 0)
    measured = {0: measure(lab, base, config.seed)}
    columns = [[frame.rgb for frame in lab.frames], lab.targets, base]

    def on_epoch(position: Position) -> Row:
        if position.epoch in MEASURED_AT or position.epoch == config.epochs:
            edits = deployed_edits(run.editor.pipeline, run.preview, run.editor.settings, 0)
            measured[position.epoch] = measure(lab, edits, config.seed)
            columns.append(edits)
            print(lab.name, variant, config.seed, position.epoch, measured[position.epoch],
                  flush=True)  # fmt: skip
        return {}

    position = build_trainer(run, None, {}).run(on_epoch)
    Image.fromarray(grid([column[:4] + column[-4:] for column in columns])).save(
        folder / "grid.png"
    )
    cell = {
        "lab": lab.name, "variant": variant, "seed": config.seed, "settings": settings,
        "measured": measured, "history": position.history,
    }  # fmt: skip
    path.write_text(json.dumps(cell, indent=1, default=float))
    return dict(json.loads(path.read_text()))


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Means over labs and seeds, ± the standard deviation of the change over labs and seeds."""
    lines = [
        "| variant | camera | epochs | PSNR, dB | colour histogram | too light, 0..255 "
        "| KID x 1000 | KID (stride 8) | accepted | labs x seeds |",
        "|" + "---|" * 10,
    ]
    for variant in dict.fromkeys(cell["variant"] for cell in cells):
        members = [cell for cell in cells if cell["variant"] == variant]
        epochs = sorted({int(epoch) for cell in members for epoch in cell["measured"]})
        for camera in CAMERAS:
            for epoch in epochs:
                rows = [cell["measured"][str(epoch)][camera] for cell in members
                        if str(epoch) in cell["measured"]]  # fmt: skip
                bases = [cell["measured"]["0"][camera] for cell in members]
                shown = [spread(rows, bases, *entry) for entry in
                         (("psnr", 1, 2), ("color", 1, 3), ("light", 1, 1), ("kid", 1000, 0),
                          ("kid_stride8", 1, 0))]  # fmt: skip
                accepted = np.mean([row["accepted"] for row in rows])
                lines.append(f"| {variant} | {camera} | {epoch} | {' | '.join(shown)} "
                             f"| {accepted:.0%} | {len(rows)} |")  # fmt: skip
    return "\n".join(lines)


def spread(rows: Sequence[Row], bases: Sequence[Row], name: str, scale: float, digits: int) -> str:
    """A mean and, where anything changed, the mean change ± its deviation."""
    mean = f"{scale * np.mean([row[name] for row in rows]):.{digits}f}"
    changes = [scale * (row[name] - base[name]) for row, base in zip(rows, bases, strict=False)]
    if not any(changes):
        return mean
    return f"{mean} ({np.mean(changes):+.{digits}f} ± {np.std(changes):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labs", nargs="+", default=list(LABS))
    parser.add_argument("--variants", nargs="+", default=["default"], choices=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], help="part__name=value, for sweeps")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "post_training_twin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="post_training_twin", help="of the results file")
    options = parser.parse_args()
    limit_threads(options.threads)
    overrides = {key: json.loads(value)
                 for key, value in (entry.split("=", 1) for entry in options.set)}  # fmt: skip
    base = changed(**overrides)(load_config(TrainConfig, options.config))
    cells = []
    for name in options.labs:
        lab = build_lab(name, options.out / name)
        for variant in options.variants:
            for seed in options.seeds:
                config = dataclasses.replace(
                    VARIANTS[variant](base), seed=seed, epochs=options.epochs, preview=TEST_FRAMES
                )
                folder = options.out / name / variant / f"seed_{seed}"
                cells.append(run_cell(lab, variant, config, folder))
    report(options.name, options.seeds[0], {"cells": cells}, table(cells))


if __name__ == "__main__":
    main()
