"""Run an evaluation from its settings: a table of editors, a JSON file and a page."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spie_robo.data.frames import sample_frames
from spie_robo.editor import Editor
from spie_robo.editor.photo_check import CheckedPhotos, check_photos, near_duplicates
from spie_robo.errors import ConfigError, EditorError, ReferencePhotoError
from spie_robo.evaluation.baselines import HistogramEditor, ReinhardEditor
from spie_robo.evaluation.config import EvaluateConfig
from spie_robo.evaluation.evaluate import EvaluationOptions, evaluate_editors
from spie_robo.evaluation.judges import JudgeNames, load_judges
from spie_robo.evaluation.page import render_comparison
from spie_robo.evaluation.table import RAW, EvaluationTable, table_as_json
from spie_robo.feedback import FeedbackConfig, photo_regions, resolve_region, visible_regions
from spie_robo.feedback.judges.segmenters import load_segmenter
from spie_robo.files.output import require_place, write_json, write_text
from spie_robo.types import Frame, ImageEditor

BASELINES: dict[str, Callable[[], ImageEditor]] = {
    "match-histograms": HistogramEditor,
    "reinhard": ReinhardEditor,
}
"""Editors without a model, by the names that users give."""

MOST_HELD_OUT = 50


def run_evaluation(config: EvaluateConfig, *, progress: bool = True) -> EvaluationTable:
    """Compare the editors of ``config`` and write its JSON and HTML files.

    All errors in the input are found before the first frame is edited.

    Raises:
        StoreError: If the store cannot be read.
        ReferencePhotoError: If there are no usable photos.
        EditorError: If there is no such editor, or an editor fails.
        ConfigError: If a judge is unknown, or a file cannot be written or would replace the input.
        MissingExtraError: If a judge needs a package that is not installed.
        FrameError: If the frames are too few or too small, or lack a named region.
    """
    # Read photos and frames, and load editors and judges.
    _require_places(config)
    photos = check_photos(config.references)
    held_out = None if config.held_out is None else _held_out(config.held_out, photos)
    frames = sample_frames(config.frames, config.count, seed=config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    editors = {name: _load_editor(name, config.base) for name in config.editors if name != RAW}
    names = JudgeNames(
        config.clip,
        config.dino,
        config.dreamsim,
        config.hps,
        config.image_reward,
        config.pick_score,
    )
    feedback, note = resolve_region(_feedback(config), frames)
    judges = load_judges(names, feedback, device)
    segmenter = load_segmenter(feedback, device)
    frames, regions, left_out = visible_regions(frames, feedback, segmenter)
    # Edit and measure.
    table = evaluate_editors(
        frames,
        photos.images,
        editors,
        judges,
        held_out=() if held_out is None else held_out.images,
        frame_regions=regions,
        photo_regions=photo_regions(photos.files, photos.images, feedback, segmenter),
        options=EvaluationOptions(config.seed, config.instruction),
        progress=progress,
    )
    # Add the notes, and write the files.
    checked = photos.notes if held_out is None else (*photos.notes, *held_out.notes)
    region = tuple(f"region: {line}" for line in (note, left_out) if line)
    table = replace(table, notes=(*checked, *region, *table.notes))
    settings = _settings(config, feedback, frames, photos, held_out)
    if config.json is not None:
        record = table_as_json(table, settings)
        write_json(config.json, record)
    if config.page is not None:
        lab = "/".join(config.references.resolve().parts[-2:])
        title = f"{config.frames.name} in the look of {lab}"
        write_text(config.page, render_comparison(table, title, settings))
    return table


def _require_places(config: EvaluateConfig) -> None:
    """Refuse a result file that cannot be written, or would replace the input or another result."""
    files = [file for file in (config.json, config.page) if file is not None]
    frames = config.frames.resolve()
    store = not frames.is_dir() or any((frames / n).exists() for n in ("zarr.json", ".zgroup"))
    for file in files:
        if store and frames in (file.resolve(), *file.resolve().parents):
            raise ConfigError(f"{file}: expected a file outside of the store {config.frames}.")
        require_place(file)
    if len({file.resolve() for file in files}) < len(files):
        raise ConfigError(f"{config.json}: expected a file each for --json and --page, got one.")


def nearest_editor(table: EvaluationTable) -> str | None:
    """Return the editor whose edits look most like the photos; None if there are only baselines."""
    scores = {
        row.name: row.scores["semantic_nearest"].mean
        for row in table.rows
        if row.name not in (RAW, *BASELINES) and "semantic_nearest" in row.scores
    }
    return min(scores, key=lambda name: scores[name]) if scores else None


def _held_out(path: Path, references: CheckedPhotos) -> CheckedPhotos:
    """Read held-out photos without those that editors follow, which would lower the floors.

    Raises:
        ReferencePhotoError: If none is left, or a photo cannot be used.
    """
    found = check_photos(path, most=MOST_HELD_OUT)
    copies = near_duplicates(found.images, references.images)
    kept = [i for i in range(len(found.files)) if i not in copies]
    if not kept:
        raise ReferencePhotoError(
            f"{path}: expected photos that are not among the references, found none. Leave "
            "--held-out away, or take other photos of the same place."
        )
    notes = [
        f"{found.names[i]} shows the same picture as the reference {references.names[reference]} "
        "and is not held out."
        for i, reference in copies.items()
    ]
    return CheckedPhotos(
        tuple(found.files[i] for i in kept),
        tuple(found.images[i] for i in kept),
        (*found.notes, *notes),
    )


def _feedback(config: EvaluateConfig) -> FeedbackConfig:
    """Return the file's judges and region, or the region that the command line names."""
    if not config.region_names:
        return config.feedback
    return replace(config.feedback, region="names", region_names=config.region_names)


def _load_editor(name: str, base: str | None) -> ImageEditor:
    close = difflib.get_close_matches(name, BASELINES, n=1, cutoff=0.8)
    if close and name not in BASELINES and not Path(name).exists():
        raise EditorError(f"Unknown editor {name!r}. Did you mean {close[0]!r}?")
    return BASELINES[name]() if name in BASELINES else Editor.from_pretrained(name, base=base)


def _settings(
    config: EvaluateConfig,
    feedback: FeedbackConfig,
    frames: Sequence[Frame],
    photos: CheckedPhotos,
    held_out: CheckedPhotos | None,
) -> dict[str, Any]:
    """Return the settings that the figures depend on, as plain values."""
    settings: dict[str, Any] = {
        "store": str(config.frames),
        "frames": len(frames),
        "frame_sizes": sorted({"{}x{}".format(*frame.rgb.shape[:2]) for frame in frames}),
        "cameras": sorted({frame.camera for frame in frames}),
        "seed": config.seed,
        "instruction": config.instruction,
        "references": str(config.references),
        "photos": list(photos.names),
        "held_out_photos": None if held_out is None else list(held_out.names),
        "depth_judge": feedback.depth_judge,
        "patch_judge": feedback.patch_judge,
        "region": feedback.region,
        "region_names": list(feedback.region_names),
        "region_phrase": feedback.region_phrase,
        "rec_lambda": feedback.rec_lambda,
    }
    for name in ("clip", "dino", "pick_score", "dreamsim", "hps", "image_reward"):
        if getattr(config, name):
            settings[name] = getattr(config, name)
    return settings
