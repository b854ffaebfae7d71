"""Run ``spie-robo train``: photos and frames become an adapter folder.

::

    OUT/                     an adapter folder, see :mod:`spie_robo.editor.adapter`
    OUT/README.md            the model card; OUT/preview.png its picture
    OUT/.gitignore           excludes the two folders below from uploads to the Hub
    OUT/checkpoints/         see :mod:`.checkpoint`
    OUT/logs/                TensorBoard, history.json, and previews of each epoch with your photos
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tqdm import tqdm

from spie_robo.data.frames import sample_frames
from spie_robo.editor.adapter import ADAPTER_CONFIG, BASE_FILE, save_adapter
from spie_robo.editor.extras import EXTRAS
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.pipeline import MODEL_INDEX
from spie_robo.editor.presets import PRESETS
from spie_robo.editor.references import LatentReferences, PhotoReferences
from spie_robo.errors import ConfigError, TrainingError
from spie_robo.files.lock import StoreLock
from spie_robo.files.output import write_json
from spie_robo.files.run_folder import FOLDER, LOGS
from spie_robo.training.card import PICTURE, model_card
from spie_robo.training.checkpoint import Position, Row, epochs_folder
from spie_robo.training.config import TrainConfig
from spie_robo.training.inputs import TrainingData, held_out_first
from spie_robo.training.preview import SEMANTIC, acceptance_note, nearness
from spie_robo.training.progress import RunProgress
from spie_robo.training.setup import TrainingRun, build_chain, prepare
from spie_robo.training.trainer import Trainer

IGNORED = ".gitignore"
DATA = "data.json"
"""File in the logs with the hashes of the photos and frames that the run began with."""


@final
@dataclass(frozen=True)
class TrainSummary:
    """The result of post-training.

    Attributes:
        out: Folder of the adapter.
        epochs: Number of epochs, with those of earlier runs.
        frames: Number of held-out frames that the scores are of.
        before: Scores of the base editor.
        after: Scores of the adapter.
    """

    out: Path
    epochs: int
    frames: int
    before: Row
    after: Row

    def __str__(self) -> str:
        """Return the result in one line."""
        before, after = self.before, self.after
        return (
            f"{self.out}: {self.epochs} epochs; semantic score {before[SEMANTIC]:.4f} -> "
            f"{after[SEMANTIC]:.4f}{nearness(before, after)}, structural "
            f"{before['preview_structural']:.4f} -> {after['preview_structural']:.4f} "
            f"(lower is better) on {self.frames} frames that training never saw; "
            f"{acceptance_note(before, after)}"
        )


def post_train(
    references: Path, frames: Path, out: Path, config: TrainConfig, resume: bool
) -> TrainSummary:
    """Post-train an editor.

    Args:
        references: Folder of about five photos of the lab.
        frames: Episode store of simulator frames.
        out: Folder of the adapter.
        config: Settings of the run.
        resume: Continue from the newest checkpoint in ``out``.

    Returns:
        Folder of the adapter, and its scores before and after.

    Raises:
        ConfigError: If ``out`` holds another run, or settings do not fit.
        StoreLockedError: If another process is training in ``out``.
        SpieRoboError: If photos, frames, editor or judges cannot be used.
    """
    # Refuse a wrong output before anything is loaded.
    _check_out(out, resume, (references, frames))
    checked = check_photos(references)
    for note in checked.notes:
        print(f"photos: {note}")
    # Hold out some frames for previews and train on the others.
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


def build_trainer(run: TrainingRun, out: Path | None, before: Row) -> Trainer:
    """Build the trainer of a run; its checkpoints hold whole adapter folders."""
    chain = build_chain(run.editor.pipeline, run.config, run.editor.settings)
    trainer: Trainer

    def write(folder: Path) -> None:
        write_adapter(run, folder, before, trainer.position)

    trainer = Trainer(
        run.policy, run.data, run.feedback, chain, run.config, run.accelerator, out, write
    )
    return trainer


def run_epochs(run: TrainingRun, out: Path, resume: bool) -> tuple[Position, Row]:
    """Train with a progress bar, trackers and previews, and publish the adapter in ``out``.

    Returns:
        Position of the run, and scores of the base.
    """
    # Resume only a run with the same base, settings, photos and frames.
    progress = RunProgress(run, out)
    trainer = build_trainer(run, out, progress.before)
    if resume:
        _check_base(out, run.base_digest)
        trainer.resume()  # compares the settings, which the draw of frames depends on too
        _check_data(out, run.data)
    # Prepare the folder and the logs.
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    if run.accelerator.is_main_process:
        write_json(out / LOGS / DATA, _digests(run.data))
    (out / IGNORED).write_text(f"{FOLDER}/\n{LOGS}/\n")
    run.accelerator.init_trackers("spie")
    shown = run.accelerator.is_main_process
    if shown:
        progress.rewind(trainer.position)
    # Train, then publish the newest checkpoint.
    with tqdm(
        total=run.config.epochs, initial=trainer.position.epoch, unit="epoch", disable=not shown
    ) as bar:
        position = trainer.run(lambda position: progress.after_epoch(position, bar))
    if shown:
        progress.write_history(position.history)
        _publish(epochs_folder(out).checkpoints()[-1] / "adapter", out)
    run.accelerator.end_training()
    return position, progress.before


def write_adapter(run: TrainingRun, folder: Path, before: Row, position: Position) -> None:
    """Write the policy as an adapter folder with its model card."""
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
    """Return the absolute path of a folder, since a relative one may be missing elsewhere."""
    folder = Path(editor).expanduser()
    return str(folder.resolve()) if editor not in PRESETS and folder.is_dir() else editor


def _check_out(out: Path, resume: bool, inputs: Sequence[Path]) -> None:
    if out.resolve() in [path.resolve() for path in inputs] or (out / MODEL_INDEX).exists():
        raise ConfigError(f"--out {out}: expected a folder of its own for the run, not an input.")
    epochs_folder(out).claim(resume, ADAPTER_CONFIG, own=(IGNORED,))


def _check_base(out: Path, digest: str) -> None:
    """Raise ConfigError if the base has other weights, TrainingError if they are not recorded."""
    for folder in epochs_folder(out).checkpoints()[-1:]:
        file = folder / "adapter" / EXTRAS / BASE_FILE
        try:
            recorded = json.loads(file.read_text())["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{file} is broken ({error}). Delete {folder} to resume from the one before."
            ) from error
        if recorded != digest:
            raise ConfigError(
                f"{out} was trained on a base with weights {recorded[:8]}, this one has "
                f"{digest[:8]}. Resume with the first, or choose another folder."
            )


def _digests(data: TrainingData) -> dict[str, str]:
    """Return SHA-256 of the photos and of the frames that epochs draw from."""
    images = {
        "photos": data.photos,
        "frames": tuple(frame.rgb for frame in data.frames),
    }
    return {name: PhotoReferences(some).digest for name, some in images.items()}


def _check_data(out: Path, data: TrainingData) -> None:
    """Raise ConfigError if the run was begun with other photos or frames."""
    file = out / LOGS / DATA
    if (
        not epochs_folder(out).checkpoints() or not file.exists()
    ):  # of an earlier release, or without its logs
        return
    try:
        begun = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{file} is broken ({error}). Delete it to resume without this check."
        ) from error
    changed = [name for name, digest in _digests(data).items() if begun.get(name) != digest]
    if changed:
        raise ConfigError(
            f"{out} was begun with other {' and '.join(changed)}. Resume with the same, or choose "
            "another folder."
        )


def _publish(adapter: Path, out: Path) -> None:
    """Copy an adapter into the run's folder, with the file that identifies it last."""
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
