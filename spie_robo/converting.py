"""``spie-robo convert``: from names and numbers to an editor, a guard and a conversion.

``IN -> reader -> edits -> episode store (durable, resumable) -> writer of the format -> OUT``

An output in a foreign format is made from a store beside it, ``.OUT.staging``, so that a conversion
that is cut short goes on where it was; the staging goes when the output is there. Where nothing is
edited, episodes go straight from reader to writer. Data in object storage is copied to this machine
before, and from it after (:mod:`spie_robo.data.cloud.object_storage`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from spie_robo.config import ConvertConfig, EditConfig
from spie_robo.data import ConvertOptions, ConvertSummary, EpisodeStore, convert_store
from spie_robo.data.cloud import object_storage
from spie_robo.data.conversion.convert import require_apart, source_notes
from spie_robo.data.conversion.engine import EditEngine
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.conversion.plan import ConvertPlan, plan_conversion
from spie_robo.data.conversion.threads import threads_of, using_threads
from spie_robo.data.formats import ExportReport, detect_format, export_episodes, open_source
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.store.fields import cameras_of
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, StoreError
from spie_robo.guard.process import GuardProcess
from spie_robo.recording import EditSetup, load_edit_setup
from spie_robo.settings.locations import Location, staging_of
from spie_robo.settings.wording import counted
from spie_robo.types import Guard, ImageEditor

JUDGE_APART_FROM = 500
"""Frames: another process takes seconds to start and saves some milliseconds a frame."""


@dataclass(frozen=True)
class ExportSummary:
    """What a conversion into a foreign format left behind.

    Attributes:
        report: What was written, and what was lost.
        edits: What was edited; None without an editor.
        notes: What the source had and no output has.
    """

    report: ExportReport
    edits: ConvertSummary | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A line for people, and one for each loss."""
        report = self.report
        size = f"{counted(report.episodes, 'episode')}, {counted(report.steps, 'step')}"
        line = f"{report.path} ({report.format}): {size}"
        if self.edits is not None:
            rate = self.edits.accepted / max(1, self.edits.frames)
            line += f", {counted(self.edits.frames, 'frame')}, {rate:.1%} edits accepted"
        lines = [line, *(f"  lossy: {loss}" for loss in report.losses)]
        lines += [f"  left out: {key}: {why}" for key, why in report.dropped.items()]
        notes = (*self.notes, *report.notes)
        return "\n".join([*lines, *(f"  note: {note.rstrip('.')}" for note in notes)])


@dataclass(frozen=True)
class UploadSummary:
    """What a conversion into object storage left behind.

    Attributes:
        out: The output.
        objects: Its objects.
        size: Bytes of them.
        made: What was sent; None if an earlier run had made it.
    """

    out: Location
    objects: int
    size: int
    made: ConvertSummary | ExportSummary | None

    def __str__(self) -> str:
        """A line for people, and what was made."""
        line = f"{self.out}: {self.objects} objects, {self.size / 1e6:.1f} MB sent and checked"
        return line if self.made is None else f"{line}\n  made as {self.made}"


def convert(
    config: ConvertConfig, *, progress: bool = True
) -> ConvertSummary | ExportSummary | UploadSummary:
    """Edit a data set as ``config`` says; resumes a conversion that was cut short.

    Raises:
        ConfigError: If the settings contradict each other.
        EditorError: If there is no such editor, or it fails.
        StoreError: If a data set cannot be read or written.
        MissingExtraError: If a format or an engine needs a package that is not installed.
    """
    target = Location.of(config.out)
    with _local_source(config, progress) as local:
        _open(local)  # a wrong path is told before seconds go into loading weights
        if target is None:
            return _convert(local, progress)
        return _convert_and_send(local, target, progress)


def _convert(config: ConvertConfig, progress: bool) -> ConvertSummary | ExportSummary:
    """Convert between two paths of this machine."""
    if config.to == "zarr":
        return _to_store(config, config.out, progress)
    if config.out.exists():
        raise StoreError(f"{config.out} already exists. Choose another output path, or delete it.")
    require_apart(config.source, config.out)
    if _edit(config).editor is None:
        source = open_source(config.source)
        if not len(source):
            raise StoreError(f"{config.source}: it has no finished episode. Record some first.")
        report = export_episodes(source, config.out, config.to, fps=config.fps, progress=progress)
        return ExportSummary(report, None, source_notes(source))
    staging = staging_of(config.out)
    edits = _to_store(config, staging, progress)
    store = EpisodeStore.open(staging)
    report = export_episodes(store, config.out, config.to, fps=config.fps, progress=progress)
    shutil.rmtree(staging)
    staging.with_name(f".{staging.name}.lock").unlink(missing_ok=True)
    return ExportSummary(report, edits, edits.notes)


def _convert_and_send(config: ConvertConfig, target: Location, progress: bool) -> UploadSummary:
    """Convert into a staging folder and send what is there."""
    # Settings that do not change the bytes must not change the folder: the next run goes on there.
    settings = replace(
        config, out=Path(), batch_size=1, engine="local", workers=None, edit_timeout=1
    )
    content = open_source(config.source).fingerprint()
    with object_storage.staging(target, settings, content) as folder:
        out = folder / Path(target.key).name
        if not out.exists():
            object_storage.require_absent(target)
        made = None
        if config.to == "zarr" or not out.exists():
            made = _convert(replace(config, out=out), progress)
        objects, size = object_storage.send(out, target, progress=progress)
        shutil.rmtree(folder)
    return UploadSummary(target, objects, size, made)


@contextmanager
def _local_source(config: ConvertConfig, progress: bool) -> Iterator[ConvertConfig]:
    """The settings with a source on this machine, a copy if need be, which goes at success."""
    source, target = Location.of(config.source), Location.of(config.out)
    if source is None:
        yield config
        return
    if target is not None and source.overlaps(target):
        raise StoreError(f"The output {target} overlaps the input {source}. Choose another output.")
    with object_storage.staging("source", source) as folder:
        local = object_storage.fetch(source, folder, progress=progress)
        yield replace(config, source=local)
        shutil.rmtree(folder)


def plan(config: ConvertConfig) -> ConvertPlan:
    """What :func:`convert` would do; a few frames are edited to see how long it takes.

    Raises:
        As :func:`convert`.
    """
    with _local_source(config, progress=True) as local:
        found = _open(local)
        setup = load_edit_setup(_edit(config))
        options = _options(config)
        guarded = None
        if setup.editor is not None:
            guarded = GuardedEditor(
                setup.editor, setup.guard, options.references, options.instruction, options.retries
            )
        return plan_conversion(
            open_source(local.source),
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


def _edit(config: ConvertConfig) -> EditConfig:
    """How to edit; ``--editor none`` in any case of letters means not at all."""
    edit = config.edit
    if edit.editor is not None and edit.editor.lower() == "none":
        edit = replace(edit, editor=None)
    if edit.editor is None and config.cameras:
        raise ConfigError("cameras: expected an editor for them, got --editor none.")
    return edit


def _to_store(config: ConvertConfig, out: Path, progress: bool) -> ConvertSummary:
    with ExitStack() as stack:
        if _edit(config).editor is not None:  # what loading computes depends on it too
            stack.enter_context(using_threads(threads_of(out)))
        engine = _engine(config, stack)
        return convert_store(
            config.source, out, None, None, _options(config), engine=engine, progress=progress
        )


def _engine(config: ConvertConfig, stack: ExitStack) -> EditEngine | None:
    """What makes the edits, until the stack is left; None edits nothing."""
    edit = _edit(config)
    if edit.editor is None:
        return None
    load, timeout = partial(_load_pair, edit), float(config.edit_timeout)
    if config.engine == "ray":
        from spie_robo.data.conversion.ray_engine import RayEngine

        return stack.enter_context(RayEngine(load, config.workers, timeout))
    editor, guard = load()
    if guard is not None and _judges_apart(config):
        guard = stack.enter_context(GuardProcess(guard))
    return LocalEngine(editor, guard, timeout)


def _judges_apart(config: ConvertConfig) -> bool:
    """Whether a second process for the guard is worth its start: many frames, and an idle core."""
    if os.name != "posix" or _cores() < 2:
        return False
    source = open_source(config.source)
    steps = sum(source.episode_length(i) for i in range(len(source)))
    cameras = config.cameras or cameras_of(source.keys)
    if isinstance(source, ForeignSource):
        source.close()
    return steps * len(cameras) >= JUDGE_APART_FROM


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # taskset and batch systems allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_pair(edit: EditConfig) -> tuple[ImageEditor, Guard | None]:
    """Editor and guard; a worker of Ray calls it too."""
    setup: EditSetup = load_edit_setup(edit)
    if setup.editor is None:
        raise ConfigError("editor: expected one, got none.")
    return setup.editor, setup.guard


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
