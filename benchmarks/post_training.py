"""SPIE post-training on photos of a lab: base against post-trained, objectives, ablations.

    python benchmarks/post_training.py ../shared/photos/counter ../shared/photos/wood
    python benchmarks/post_training.py ../shared/photos/counter --variants semantic-only one-photo

A lab is a folder with ``references/`` (trained on) and ``held_out/`` (only measured with). Every
cell (lab, variant, seed) is kept in ``runs/post_training``: started again, finished ones are read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import lab_folders, report
from numpy.typing import NDArray
from PIL import Image
from real_photos import task_frames

from spie_robo.editor.photo_check import CheckedPhotos, check_photos, near_duplicates
from spie_robo.editor.references import cover
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.evaluation.judges import JudgeNames, load_judges
from spie_robo.evaluation.measure import Judges, feedback_values, photo_floors
from spie_robo.evaluation.realism import PooledFeatures, kernel_distance
from spie_robo.feedback.judges.patches import load_patch_judge
from spie_robo.feedback.records import FeedbackInput
from spie_robo.feedback.regions import named_region
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.settings.yaml_files import load_config
from spie_robo.training.checkpoint import Position, Row
from spie_robo.training.config import TrainConfig, default_config
from spie_robo.training.inputs import TrainingData
from spie_robo.training.preview import deployed_edits, grid
from spie_robo.training.run import build_trainer, write_adapter
from spie_robo.training.setup import TrainingRun, prepare
from spie_robo.types import RGB, EditResult

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "train" / "embedded.yaml"
MEASURED_AT = (0, 1, 5, 10, 20)
TEST_FRAMES = 24
SURFACES = ("table", "wall", "floor")
INDEPENDENT = "stride-8 features (not rewarded)"


def changed(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    """A variant: settings that differ, one level deep as ``part__name``."""

    def apply(config: TrainConfig) -> TrainConfig:
        parts: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            part, _, name = key.partition("__")
            if name:
                parts.setdefault(part, {})[name] = value
            else:
                config = dataclasses.replace(config, **{part: value})
        whole = {
            part: dataclasses.replace(getattr(config, part), **values)
            for part, values in parts.items()
        }
        return dataclasses.replace(config, **whole)

    return apply


def ranking(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    """A variant of the settings for objectives that learn from rankings."""
    return lambda _: changed(**changes)(default_config("nft"))


WIDE = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "conv1",
    "conv2",
    "conv_shortcut",
    "proj_in",
    "proj_out",
)

BLIND: dict[str, Any] = {
    "kept": "frame",
    "feedback__rec_lambda": 0.5,
    "feedback__patch_judge": "embedded:stride2+stride16",
}
"""The settings before light was seen: no colour, and the raw frame's light outside the region."""

VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "default": changed(),
    "semantic-only": changed(feedback__structural_weight=0.0),
    "structural-only": changed(feedback__semantic_weight=0.0),
    "structure-weight-1": changed(feedback__structural_weight=1.0),
    "monocular": changed(feedback__structure="monocular"),
    "paper-semantics": changed(feedback__semantic="paper"),
    "one-layer": changed(feedback__patch_judge="embedded"),
    "table-region": changed(feedback__region="names", feedback__region_names=("table",)),
    "table-region-no-reconstruction": changed(
        feedback__region="names", feedback__region_names=("table",), feedback__rec_lambda=0.0
    ),
    "whole-frame": changed(feedback__region="frame"),
    "no-reconstruction": changed(feedback__rec_lambda=0.0),
    "one-photo": changed(),
    "no-visual-prompt": changed(use_references=False),
    "wide-adapter": changed(adapter__targets=WIDE),
    "pull": changed(draft__pull=0.3),
    "blind-to-light": changed(**BLIND),
    "whole-frame-blind": changed(**BLIND, feedback__region="frame"),
    "no-color": changed(feedback__patch_judge="embedded:stride2+stride16"),
    "frame-kept": changed(kept="frame"),
    "nft": ranking(),
    "spie": ranking(objective="spie"),
    "nft-four-steps": ranking(rollout__steps=4, rollout__eta=1.0, nft__timesteps=(0.2, 1.0)),
    "nft-explore": ranking(rollout__exploration=1.0),
    "nft-no-pull": ranking(nft__pull=0.0),
    "nft-equal-weights-no-pull": ranking(nft__pull=0.0, feedback__structural_weight=1.0),
    "nft-four-updates": ranking(optimizer__updates=4),
    "nft-learning-rate-x3": ranking(optimizer__learning_rate=3e-3),
}


class Lab:
    """Photos of a lab, and everything that edits of frames are measured with.

    Args:
        folder: With ``references`` and ``held_out``.
        judges: The scores.
    """

    def __init__(self, folder: Path, judges: Judges) -> None:
        """Load the photos, without those of the references among the held-out ones."""
        self.name, self.judges = folder.name, judges
        self.photos = check_photos(folder / "references")
        held_out = check_photos(folder / "held_out").images
        copies = near_duplicates(held_out, self.photos.images)
        self.held_out = [image for i, image in enumerate(held_out) if i not in copies]
        regions = [None] * len(self.photos.images)
        squares = [cover(image, 128, 128) for image in self.held_out]
        self.floors = photo_floors(self.photos.images, regions, squares, judges)
        self._fine = SemanticScore(load_patch_judge("embedded:stride8"), "nearest", 0.5)
        self._look = SemanticScore(load_patch_judge("embedded"), "nearest", rec_lambda=0.0)
        self._hues = color_histogram(self.held_out)

    def measure(self, data: TrainingData, edits: Sequence[RGB], seed: int) -> Row:
        """All figures of edits of the test frames; see the columns of :func:`table`."""
        photos = self.photos.images
        inputs = [
            FeedbackInput(frame, photos[i % len(photos)]) for i, frame in enumerate(data.frames)
        ]
        grouped = [[edit] for edit in edits]
        values = feedback_values(inputs, grouped, self.judges)[0]
        results = [EditResult(edit, 0, "", "", 0) for edit in edits]
        verdicts = self.judges.guard.judge_batch(data.frames, results)
        row = {key: float(np.nanmean(column)) for key, column in values.items()}
        surfaces = [
            dataclasses.replace(one, frame_region=named_region(one.frame, SURFACES))
            for one in inputs
        ]
        ratios = [gradient_ratio(e, f.rgb) for e, f in zip(edits, data.frames, strict=True)]
        early = kernel_distance(
            edits, self.held_out, seed=seed, extractor=PooledFeatures("stride8")
        )
        return row | {
            "kid": kernel_distance(edits, self.held_out, seed=seed).mean,
            "kid_stride8": early.mean,
            "surfaces": float(self._look.score(surfaces, grouped).mean()),
            "independent": float(self._fine.score(inputs, grouped).mean()),
            "color": float(np.abs(color_histogram(edits) - self._hues).sum() / 2),
            "accepted": float(np.mean([verdict.accepted for verdict in verdicts])),
            "gradients": float(np.mean(ratios)),
        }


def color_histogram(images: Sequence[RGB]) -> NDArray[np.float64]:
    """Share of pixels in each of 8x8x8 CIELAB cells; half their L1 distance is 0 to 1."""
    total = np.zeros((8, 8, 8))
    for image in images:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        counts = cv2.calcHist([lab], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
        total += counts / counts.sum()
    return total / len(images)


def variant_config(name: str, base: TrainConfig, seed: int, epochs: int) -> TrainConfig:
    """The settings of a variant."""
    config = VARIANTS[name](base)
    return dataclasses.replace(config, seed=seed, epochs=epochs, preview=TEST_FRAMES)


def run_cell(lab: Lab, variant: str, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, measuring on the way; the result is kept as JSON beside the pictures."""
    path = folder / "cell.json"
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    if path.exists() and longer(json.loads(path.read_text())["settings"], settings):
        return dict(json.loads(path.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    photos = lab.photos
    if variant == "one-photo":
        photos = CheckedPhotos(photos.files[:1], photos.images[:1], photos.notes)
    frames = task_frames(200)[::2][:TEST_FRAMES] + task_frames(100)
    run = prepare(config, photos, frames)
    measured: dict[int, Row] = {}
    with run.policy.reference():
        base = edits_of(run)
    measured[0] = lab.measure(run.preview, base, config.seed)
    train_seconds = 0.0
    columns = [[frame.rgb for frame in run.preview.frames], base]

    def on_epoch(position: Position) -> Row:
        if position.epoch in MEASURED_AT or position.epoch == config.epochs:
            edits = edits_of(run)
            measured[position.epoch] = lab.measure(run.preview, edits, config.seed)
            columns.append(edits)
            Image.fromarray(grid([column[::3] for column in columns])).save(folder / "grid.png")
            print(lab.name, variant, config.seed, position.epoch, brief(measured[position.epoch]),
                  flush=True)  # fmt: skip
        return {}

    started = time.perf_counter()
    trainer = build_trainer(run, None, {})
    position = trainer.run(on_epoch)
    train_seconds = sum(row["seconds"] for row in position.history)
    write_adapter(run, folder / "adapter", {}, position)
    cell = {
        "lab": lab.name,
        "variant": variant,
        "seed": config.seed,
        "settings": settings,
        "floors": {key: value for key, value in lab.floors.items()},
        "measured": measured,
        "history": position.history,
        "train_seconds": train_seconds,
        "wall_seconds": time.perf_counter() - started,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    path.write_text(json.dumps(cell, indent=1, default=float))
    return dict(json.loads(path.read_text()))


def longer(kept: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a kept cell had the same settings and at least as many epochs."""
    return kept["epochs"] >= wanted["epochs"] and kept | {"epochs": 0} == wanted | {"epochs": 0}


def edits_of(run: TrainingRun) -> list[RGB]:
    """Deployed edits of the test frames, the same seeds in every cell."""
    return deployed_edits(run.editor.pipeline, run.preview, run.editor.settings, 0)


def brief(row: Row) -> str:
    names = ("semantic_nearest", "structural_simulator", "kid", "independent", "color", "accepted")
    return " ".join(f"{name} {row[name]:.4f}" for name in names)


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Mean over seeds, ± their standard deviation."""
    lines = [
        "| lab | variant | epochs | semantic, nearest | gap closed | gap closed, surfaces "
        "| semantic, paper | structure, simulator | structure, monocular | KID x 1000 "
        f"| {INDEPENDENT} | colour histogram | gradients | accepted | seeds | minutes |",
        "|" + "---|" * 16,
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["lab"], cell["variant"]), []).append(cell)
    for (lab, variant), members in groups.items():
        floor = members[0]["floors"]["semantic_nearest"]
        measured = {epoch for member in members for epoch in member["measured"]}
        for epoch in sorted(measured, key=int):
            reached = [member for member in members if epoch in member["measured"]]
            rows = [member["measured"][epoch] for member in reached]
            bases = [member["measured"]["0"] for member in reached]
            minutes = [sum(row["seconds"] for row in member["history"][: int(epoch)]) / 60
                       for member in reached]  # fmt: skip
            shown = [
                spread([row["semantic_nearest"] for row in rows]),
                closed("semantic_nearest", bases, rows, floor),
                closed("surfaces", bases, rows, floor),
                spread([row["semantic_paper"] for row in rows]),
                spread([row["structural_simulator"] for row in rows]),
                spread([row["structural_monocular"] for row in rows]),
                spread([1000 * row["kid"] for row in rows], 0),
                spread([row["independent"] for row in rows]),
                spread([row["color"] for row in rows]),
                spread([row["gradients"] for row in rows], 2),
                f"{np.mean([row['accepted'] for row in rows]):.0%}",
                str(len(rows)),
                f"{np.mean(minutes):.1f}",
            ]
            lines.append(f"| {lab} | {variant} | {epoch} | {' | '.join(shown)} |")
        if variant == "default":
            lines.append(
                f"| {lab} | *floor: held-out photos* | | {floor:.4f} | 100% | 100% "
                f"| {members[0]['floors']['semantic_paper']:.4f} |" + " |" * 9
            )
    return "\n".join(lines)


def closed(name: str, bases: Sequence[Row], rows: Sequence[Row], floor: float) -> str:
    """Share of the way from the bases' score to the floor; empty if it was not measured."""
    if not all(name in row for row in (*bases, *rows)):
        return ""
    shares = [
        (base[name] - row[name]) / (base[name] - floor)
        for base, row in zip(bases, rows, strict=True)
    ]
    return f"{np.mean(shares):.0%} ± {np.std(shares):.0%}"


def spread(values: Sequence[float], digits: int = 4) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", type=Path, nargs="*", default=lab_folders())
    parser.add_argument("--variants", nargs="+", default=["default"], choices=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], help="part__name=value, for sweeps")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "post_training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="post_training", help="of the results file")
    options = parser.parse_args()
    if not options.labs:
        print("Skipped: no labs. Give folders with references/ and held_out/.")
        return
    torch.set_num_threads(options.threads)
    overrides = dict(entry.split("=", 1) for entry in options.set)
    base = changed(**{key: json.loads(value) for key, value in overrides.items()})(
        load_config(TrainConfig, options.config)
    )
    labs = [Lab(folder, load_judges(JudgeNames())) for folder in options.labs]
    cells = []
    for seed in options.seeds:
        for lab in labs:
            for variant in options.variants:
                config = variant_config(variant, base, seed, options.epochs)
                folder = options.out / lab.name / variant / f"seed_{seed}"
                cells.append(run_cell(lab, variant, config, folder))
    report(options.name, options.seeds[0], {"cells": cells}, table(cells))


if __name__ == "__main__":
    main()
