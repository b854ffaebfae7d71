"""``spie-robo train``: photos and frames in, an adapter folder out.

::

    OUT/                     an adapter folder, see :mod:`spie_robo.editor.adapter`
    OUT/README.md            the model card; OUT/preview.png its picture
    OUT/.gitignore           keeps the two below out of what the Hub is given
    OUT/checkpoints/         see :mod:`.checkpoint`
    OUT/logs/                TensorBoard, history.json, and previews of each epoch with your photos
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

from accelerate import Accelerator  # type: ignore[import-untyped]
from tqdm import tqdm

from spie_robo.data.frames import sample_frames
from spie_robo.editor.adapter import ADAPTER_CONFIG, BASE_FILE, save_adapter
from spie_robo.editor.digest import weights_digest
from spie_robo.editor.editor import Editor
from spie_robo.editor.extras import EXTRAS
from spie_robo.editor.photo_check import CheckedPhotos, check_photos
from spie_robo.editor.pipeline import MODEL_INDEX
from spie_robo.editor.presets import PRESETS, find_folder, load_editor
from spie_robo.editor.references import LatentReferences, PhotoReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, StoreError, TrainingError
from spie_robo.feedback.feedback import FeedbackModel, build_feedback
from spie_robo.feedback.judges.segmenters import load_segmenter
from spie_robo.feedback.regions import photo_regions
from spie_robo.feedback.structural import resolve_structure
from spie_robo.feedback.surroundings import resolve_region
from spie_robo.files.lock import StoreLock
from spie_robo.files.output import write_json
from spie_robo.training.card import PICTURE, model_card
from spie_robo.training.checkpoint import FOLDER, Position, Row, checkpoints
from spie_robo.training.config import TrainConfig
from spie_robo.training.inputs import TrainingData, gather_data, held_out_first
from spie_robo.training.preview import SEMANTIC, told_acceptance, told_gap
from spie_robo.training.progress import LOGS, Progress
from spie_robo.training.rollout import build_chain
from spie_robo.training.trained_editor import TrainedEditor
from spie_robo.training.trainer import Trainer, build_accelerator
from spie_robo.types import Frame

IGNORED = ".gitignore"
DATA = "data.json"
"""Under the logs: what the run was begun with."""


@final
@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run with everything loaded.

    Attributes:
        config: Its settings.
        editor: The editor in training; its pipeline is the policy's.
        base_digest: Hash of the base's weights.
        policy: What trains.
        data: What epochs draw from.
        preview: The same photos with frames that training never sees.
        feedback: Scores edits.
        accelerator: Device, precision, processes, trackers.
    """

    config: TrainConfig
    editor: Editor
    base_digest: str
    policy: TrainedEditor
    data: TrainingData
    preview: TrainingData
    feedback: FeedbackModel
    accelerator: Accelerator


@final
@dataclass(frozen=True)
class TrainSummary:
    """What a post-training left behind.

    Attributes:
        out: Folder of the adapter.
        epochs: Epochs that it was trained for, earlier runs included.
        frames: Number of frames, never trained on, that the scores are of.
        before: Scores of the base editor.
        after: Scores of the adapter.
    """

    out: Path
    epochs: int
    frames: int
    before: Row
    after: Row

    def __str__(self) -> str:
        """One line for people."""
        before, after = self.before, self.after
        return (
            f"{self.out}: {self.epochs} epochs; semantic score {before[SEMANTIC]:.4f} -> "
            f"{after[SEMANTIC]:.4f}{told_gap(before, after)}, structural "
            f"{before['preview_structural']:.4f} -> {after['preview_structural']:.4f} "
            f"(lower is better) on {self.frames} frames that training never saw; "
            f"{told_acceptance(before, after)}"
        )


def post_train(
    references: Path, frames: Path, out: Path, config: TrainConfig, resume: bool
) -> TrainSummary:
    """Post-train an editor.

    Args:
        references: Folder of about five photos of the lab.
        frames: Episode store of simulator frames.
        out: Folder of the adapter.
        config: The settings.
        resume: Go on from the newest checkpoint in ``out``.

    Returns:
        Where the adapter is, and its scores before and after.

    Raises:
        ConfigError: If ``out`` holds another run, or settings do not fit.
        StoreLockedError: If another process trains in ``out``.
        SpieRoboError: For unusable photos, frames, editors or judges.
    """
    _check_out(out, resume, (references, frames))
    checked = check_photos(references)
    for note in checked.notes:
        print(f"photos: {note}")
    drawn = sample_frames(
        frames, config.frames + config.preview, cameras=config.cameras, seed=config.seed
    )
    drawn = held_out_first(drawn, min(config.preview, len(drawn) // 2))
    run = prepare(config, checked, drawn, out / LOGS)
    with (
        StoreLock(out.resolve() / LOGS / "run")
        if run.accelerator.is_main_process
        else nullcontext()
    ):
        position, before = run_epochs(run, out, resume)
    return TrainSummary(out, position.epoch, len(run.preview.frames), before, position.history[-1])


def prepare(
    config: TrainConfig, photos: CheckedPhotos, frames: list[Frame], logs: Path | None = None
) -> TrainingRun:
    """Load base and judges, and bring frames and photos into training shape.

    Args:
        config: The settings.
        photos: The reference photos.
        frames: The first ``config.preview`` are held out, half of them at most; the others are
            trained on.
        logs: Folder of TensorBoard's files; None: none.

    Raises:
        StoreError: If fewer than two frames can be used.
        ConfigError: If the base is an adapter.
        SpieRoboError: For unusable photos, frames, editors or judges.
    """
    _require_base(config.editor)
    config = _suited_to(config, frames)
    accelerator = build_accelerator(config.precision, logs)
    loaded = load_editor(config.editor)
    base_digest = weights_digest(loaded.pipeline)
    settings = _settings_of(config, loaded.settings)
    editor = Editor(loaded.pipeline, config.editor, settings)  # brings the scheduler into line
    editor.pipeline.to(accelerator.device)
    device = str(accelerator.device)
    segmenter = load_segmenter(config.feedback, device)
    data = gather_data(
        editor.pipeline,
        frames,
        photos.images,
        photo_regions=photo_regions(photos.files, photos.images, config.feedback, segmenter),
        feedback=config.feedback,
        segmenter=segmenter,
        resolution=settings.resolution,
        instruction=settings.instruction,
        use_references=config.use_references,
        photo_crops=config.photo_crops,
        seed=config.seed,
    )
    if len(data.frames) < 2:
        raise StoreError(
            f"Frames: expected 2 or more, one of them for previews, got {len(data.frames)}."
        )
    held_out = min(config.preview, len(data.frames) // 2)
    policy = TrainedEditor(
        editor.pipeline, config.adapter, config.seed, config.gradient_checkpointing
    )
    return TrainingRun(
        config,
        editor,
        base_digest,
        policy,
        data.subset(slice(held_out, None)),
        data.subset(slice(held_out)),
        build_feedback(config.feedback, device),
        accelerator,
    )


def _settings_of(config: TrainConfig, base: EditorSettings) -> EditorSettings:
    """The base editor's settings, with what the run says otherwise."""
    return dataclasses.replace(
        base,
        sampler=config.rollout.sampler or base.sampler,
        instruction=config.instruction or base.instruction,
        use_references=config.use_references,
    )


def _require_base(editor: str) -> None:
    if (find_folder(editor) / ADAPTER_CONFIG).is_file():
        raise ConfigError(f"{editor} is an adapter. Train from its base, or go on with --resume.")


def _suited_to(config: TrainConfig, frames: Sequence[Frame]) -> TrainConfig:
    """Decide on region and structure by what the frames carry, and say what was chosen."""
    feedback, region = resolve_region(config.feedback, frames)
    feedback, structure = resolve_structure(feedback, frames)
    for name, note in (("region", region), ("structure", structure)):
        if note:
            print(f"{name}: {note}")
    return dataclasses.replace(config, feedback=feedback)


def build_trainer(run: TrainingRun, out: Path | None, before: Row) -> Trainer:
    """The trainer of a run; its checkpoints hold whole adapter folders."""
    chain = build_chain(run.editor.pipeline, run.config, run.editor.settings)
    trainer: Trainer

    def write(folder: Path) -> None:
        write_adapter(run, folder, before, trainer.position)

    trainer = Trainer(
        run.policy, run.data, run.feedback, chain, run.config, run.accelerator, out, write
    )
    return trainer


def run_epochs(run: TrainingRun, out: Path, resume: bool) -> tuple[Position, Row]:
    """Train, with a bar, trackers and previews, and publish the adapter in ``out``.

    Returns:
        Where the run stands, and the base's scores.
    """
    progress = Progress(run, out)
    trainer = build_trainer(run, out, progress.before)
    if resume:
        _check_base(out, run.base_digest)
        trainer.resume()  # compares the settings, on which the draw of frames depends too
        _check_data(out, run.data)
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    if run.accelerator.is_main_process:
        write_json(out / LOGS / DATA, _digests(run.data))
    (out / IGNORED).write_text(f"{FOLDER}/\n{LOGS}/\n")
    run.accelerator.init_trackers("spie")
    shown = run.accelerator.is_main_process
    if shown:
        progress.rewind(trainer.position)
    with tqdm(
        total=run.config.epochs, initial=trainer.position.epoch, unit="epoch", disable=not shown
    ) as bar:
        position = trainer.run(lambda position: progress.after_epoch(position, bar))
    if shown:
        progress.write_history(position.history)
        _publish(checkpoints(out)[-1] / "adapter", out)
    run.accelerator.end_training()
    return position, progress.before


def write_adapter(run: TrainingRun, folder: Path, before: Row, position: Position) -> None:
    """Write the policy as an adapter folder, with its card."""
    style = run.data.style_latents
    keep = run.config.save_references and style is not None
    save_adapter(
        folder,
        run.editor.pipeline,
        base=_named_base(run.config.editor),
        base_digest=run.base_digest,
        settings=run.editor.settings,
        references=LatentReferences(style) if keep and style is not None else None,
        card=model_card(
            run.config,
            photos=len(run.data.photos),
            frames=len(run.data.frames),
            before=before,
            history=position.history,
            references=keep,
        ),
    )


def _named_base(editor: str) -> str:
    """A folder by its whole path: a relative one would be looked for elsewhere, or on the Hub."""
    folder = Path(editor).expanduser()
    return str(folder.resolve()) if editor not in PRESETS and folder.is_dir() else editor


def _check_out(out: Path, resume: bool, inputs: Sequence[Path]) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, this is a file.")
    if out.resolve() in [path.resolve() for path in inputs] or (out / MODEL_INDEX).exists():
        raise ConfigError(f"--out {out}: expected a folder of its own for the run, not an input.")
    found = checkpoints(out)
    if found and not resume:
        raise ConfigError(
            f"{out} holds a run ({found[-1].name}). Go on with --resume, or choose another folder."
        )
    if found:
        return
    # A run that was cut off in its first epoch left only these, and begins again.
    strange = {path.name for path in out.glob("*")} - {FOLDER, LOGS, IGNORED}
    if resume and strange:
        raise ConfigError(f"{out} holds no whole checkpoint to resume from.")
    if (out / ADAPTER_CONFIG).exists():
        raise ConfigError(f"{out} already holds an adapter. Choose another folder.")
    if strange:  # an adapter has a README.md and more, which would take the place of the user's
        raise ConfigError(
            f"--out {out}: expected a new or an empty folder, found {sorted(strange)[0]!r} in it."
        )


def _check_base(out: Path, digest: str) -> None:
    """Raise ConfigError if the run was trained on other weights, TrainingError if none can tell."""
    for folder in checkpoints(out)[-1:]:
        file = folder / "adapter" / EXTRAS / BASE_FILE
        try:
            recorded = json.loads(file.read_text())["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{file} is broken ({error}). Delete {folder} to go on from the one before."
            ) from error
        if recorded != digest:
            raise ConfigError(
                f"{out} was trained on a base with weights {recorded[:8]}, this one has "
                f"{digest[:8]}. Resume with the first, or choose another folder."
            )


def _digests(data: TrainingData) -> dict[str, str]:
    """SHA-256 of the photos and of the frames that epochs draw from."""
    images = {
        "photos": data.photos,
        "frames": tuple(frame.rgb for frame in data.frames),
    }
    return {name: PhotoReferences(some).digest for name, some in images.items()}


def _check_data(out: Path, data: TrainingData) -> None:
    """Raise ConfigError if the checkpoints are of a run with other photos or frames."""
    file = out / LOGS / DATA
    if not checkpoints(out) or not file.exists():  # of an earlier release, or without its logs
        return
    try:
        begun = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{file} is broken ({error}). Delete it to resume all the same."
        ) from error
    changed = [name for name, digest in _digests(data).items() if begun.get(name) != digest]
    if changed:
        raise ConfigError(
            f"{out} was begun with other {' and '.join(changed)}. Resume with the same, or choose "
            "another folder."
        )


def _publish(adapter: Path, out: Path) -> None:
    """Copy an adapter into the run's folder; the file that makes it one comes last."""
    picture = out / LOGS / PICTURE
    if picture.exists():
        shutil.copy2(picture, out / PICTURE)
    files = [path for path in sorted(adapter.rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda file: file.name == ADAPTER_CONFIG):
        target = out / path.relative_to(adapter)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(target.name + ".partial")
        shutil.copy2(path, staged)
        os.replace(staged, target)
