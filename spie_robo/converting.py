"""``spie-robo convert``: from names and numbers to an editor, a guard and a conversion.

``IN -> reader -> edits -> episode store (durable, resumable) -> writer of the format -> OUT``

An output in a foreign format is made from a store beside it, ``.OUT.staging``, so that a conversion
that is cut short goes on where it was; the staging goes when the output is there. Where nothing is
edited, episodes go straight from reader to writer.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from spie_robo.config import ConvertConfig
from spie_robo.data import ConvertOptions, ConvertSummary, EpisodeStore, convert_store
from spie_robo.data.formats import ExportReport, detect_format, export_episodes, open_source
from spie_robo.data.formats.reading import ForeignSource
from spie_robo.data.plan import ConvertPlan, plan_conversion
from spie_robo.errors import ConfigError, StoreError
from spie_robo.guarded_editor import GuardedEditor
from spie_robo.recording import EditSetup, load_edit_setup


@dataclass(frozen=True)
class ExportSummary:
    """What a conversion into a foreign format left behind.

    Attributes:
        report: What was written, and what was lost.
        edits: What was edited; None without an editor.
    """

    report: ExportReport
    edits: ConvertSummary | None

    def __str__(self) -> str:
        """A line for people, and one for each loss."""
        report = self.report
        line = f"{report.path} ({report.format}): {report.episodes} episodes, {report.steps} steps"
        if self.edits is not None:
            rate = self.edits.accepted / max(1, self.edits.frames)
            line += f", {self.edits.frames} frames, {rate:.1%} edits accepted"
        lines = [line, *(f"  lossy: {loss}" for loss in report.losses)]
        lines += [f"  left out: {key}: {why}" for key, why in report.dropped.items()]
        return "\n".join([*lines, *(f"  note: {note.rstrip('.')}" for note in report.notes)])


def convert(config: ConvertConfig, *, progress: bool = True) -> ConvertSummary | ExportSummary:
    """Edit a data set as ``config`` says; resumes a conversion that was cut short.

    Raises:
        ConfigError: If the settings contradict each other.
        EditorError: If there is no such editor, or it fails.
        StoreError: If a data set cannot be read or written.
        MissingExtraError: If a format needs a package that is not installed.
    """
    _open(config)  # a wrong path is told before seconds go into loading weights
    setup = _load(config)
    if config.to == "zarr":
        return _to_store(config, config.out, setup, progress)
    if config.out.exists():
        raise StoreError(f"{config.out} already exists. Choose another output path, or delete it.")
    if setup.editor is None:
        with_report = export_episodes(
            open_source(config.source), config.out, config.to, fps=config.fps, progress=progress
        )
        return ExportSummary(with_report, None)
    staging = config.out.absolute().with_name(f".{config.out.name}.staging")
    edits = _to_store(config, staging, setup, progress)
    store = EpisodeStore.open(staging)
    report = export_episodes(store, config.out, config.to, fps=config.fps, progress=progress)
    shutil.rmtree(staging)
    staging.with_name(f".{staging.name}.lock").unlink(missing_ok=True)
    return ExportSummary(report, edits)


def plan(config: ConvertConfig) -> ConvertPlan:
    """What :func:`convert` would do; a few frames are edited to see how long it takes.

    Raises:
        As :func:`convert`.
    """
    found = _open(config)
    setup = _load(config)
    options = _options(config)
    guarded = None
    if setup.editor is not None:
        guarded = GuardedEditor(
            setup.editor, setup.guard, options.references, options.instruction, options.retries
        )
    return plan_conversion(
        open_source(config.source),
        config.source,
        found,
        config.out,
        config.to,
        guarded,
        config.cameras,
    )


def _open(config: ConvertConfig) -> str:
    """The format of the input, which is opened to see whether it can be read."""
    found = detect_format(config.source)
    source = open_source(config.source, found)
    if isinstance(source, ForeignSource):
        source.close()
    return found


def _load(config: ConvertConfig) -> EditSetup:
    """Editor and guard; ``--editor none`` in any case of letters means neither."""
    edit = config.edit
    if edit.editor is not None and edit.editor.lower() == "none":
        edit = replace(edit, editor=None)
    if edit.editor is None and config.cameras:
        raise ConfigError("cameras: expected an editor for them, got --editor none.")
    return load_edit_setup(edit)


def _to_store(config: ConvertConfig, out: Path, setup: EditSetup, progress: bool) -> ConvertSummary:
    return convert_store(
        config.source, out, setup.editor, setup.guard, _options(config), progress=progress
    )


def _options(config: ConvertConfig) -> ConvertOptions:
    return ConvertOptions(
        cameras=config.cameras,
        batch_size=config.batch_size,
        steps=config.edit.steps,
        seed=config.edit.seed,
        instruction=config.edit.instruction,
        references=config.edit.references,
        retries=config.edit.retries,
    )
