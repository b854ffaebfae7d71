"""This module does the work of ``spie-robo convert``.

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
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spie_robo.data.cloud import object_storage
from spie_robo.data.conversion.convert import (
    ConvertSummary,
    convert_store,
    require_apart,
    source_notes,
)
from spie_robo.data.conversion.engine import EditEngine
from spie_robo.data.conversion.identity import ConversionConfig
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.conversion.plan import ConvertPlan, plan_conversion
from spie_robo.data.conversion.summaries import ExportSummary, UploadSummary
from spie_robo.data.conversion.threads import threads_of, using_threads
from spie_robo.data.conversion.variants import Variants
from spie_robo.data.formats import detect_format, export_episodes, open_source
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.fields import cameras_of
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError, StoreError
from spie_robo.guard.process import GuardProcess
from spie_robo.settings.locations import Location, staging_of

if TYPE_CHECKING:
    from spie_robo.commands.convert import ConvertCommand

JUDGE_APART_FROM = 500
"""Fewest frames for which the guard gets a process of its own, which takes seconds to start."""


def run_conversion(
    command: ConvertCommand, *, progress: bool = True
) -> ConvertSummary | ExportSummary | UploadSummary:
    """Edit a data set as ``command`` says; see :func:`spie_robo.commands.convert.convert`."""
    _require_cameras_edited(command)
    target = Location.of(command.out)
    # The source is opened before seconds go into loading weights.
    with _local_source(command, progress) as local, closing(open_source(local.source)) as source:
        if target is None:
            return _convert(local, source, progress)
        return _convert_and_send(local, source, target, progress)


def plan_command(command: ConvertCommand) -> ConvertPlan:
    """Say what a conversion would do; see :func:`spie_robo.commands.convert.plan`."""
    _require_cameras_edited(command)
    with _local_source(command, progress=True) as local:
        found = detect_format(local.source)
        with closing(open_source(local.source, found)) as source:
            seed = command.edit.seed
            looks = source
            if command.variants is not None:
                looks = Variants(source, command.variants, keep_raw=command.keep_raw, seed=seed)
            return plan_conversion(
                looks,
                command.source,
                found,
                command.out,
                command.to,
                command.edit.load(),
                command.cameras,
            )


def _convert(
    command: ConvertCommand, source: EpisodeSource, progress: bool
) -> ConvertSummary | ExportSummary:
    """Convert between two paths of this machine."""
    if command.to == "zarr":
        return _to_store(command, source, command.out, progress)
    if command.out.exists():
        raise StoreError(f"{command.out} already exists. Choose another output path, or delete it.")
    require_apart(command.source, command.out)
    # Without an editor, episodes go straight into the other format.
    if command.edit.raw:
        if not len(source):
            raise StoreError(f"{command.source}: it has no finished episode. Record some first.")
        report = export_episodes(
            source, command.out, command.to, fps=command.fps, progress=progress
        )
        return ExportSummary(report, None, source_notes(source))
    # Edits go into a store beside the output first, where they outlive a kill.
    staging = staging_of(command.out)
    edits = _to_store(command, source, staging, progress)
    store = EpisodeStore.open(staging)
    report = export_episodes(store, command.out, command.to, fps=command.fps, progress=progress)
    shutil.rmtree(staging)
    staging.with_name(f".{staging.name}.lock").unlink(missing_ok=True)
    return ExportSummary(report, edits, edits.notes)


def _convert_and_send(
    command: ConvertCommand, source: EpisodeSource, target: Location, progress: bool
) -> UploadSummary:
    """Convert into a staging folder and send what is there."""
    # Settings that do not change the bytes must not change the folder: the next run goes on there.
    settings = replace(
        command, out=Path(), batch_size=1, engine="local", workers=None, edit_timeout=1
    )
    with object_storage.staging(target, settings, source.fingerprint()) as folder:
        out = folder / Path(target.key).name
        if not out.exists():
            object_storage.require_absent(target)
        made = None
        if command.to == "zarr" or not out.exists():
            made = _convert(replace(command, out=out), source, progress)
        objects, size = object_storage.send(out, target, progress=progress)
        shutil.rmtree(folder)
    return UploadSummary(target, objects, size, made)


@contextmanager
def _local_source(command: ConvertCommand, progress: bool) -> Iterator[ConvertCommand]:
    """Yield the settings with a source on this machine; a copy goes again at success."""
    source, target = Location.of(command.source), Location.of(command.out)
    if source is None:
        yield command
        return
    if target is not None and source.overlaps(target):
        raise StoreError(f"The output {target} overlaps the input {source}. Choose another output.")
    with object_storage.staging("source", source) as folder:
        local = object_storage.fetch(source, folder, progress=progress)
        yield replace(command, source=local)
        shutil.rmtree(folder)


def _require_cameras_edited(command: ConvertCommand) -> None:
    if command.edit.raw and command.cameras:
        raise ConfigError("cameras: expected an editor for them, got --editor none.")


def _to_store(
    command: ConvertCommand, source: EpisodeSource, out: Path, progress: bool
) -> ConvertSummary:
    config = ConversionConfig(
        command.cameras,
        command.batch_size,
        command.edit.seed,
        variants=command.variants,
        keep_raw=command.keep_raw,
    )
    with ExitStack() as stack:
        if not command.edit.raw:  # what loading computes depends on the threads too
            stack.enter_context(using_threads(threads_of(out)))
        engine = _engine(command, source, stack)
        return convert_store(source, out, engine, config, progress=progress)


def _engine(command: ConvertCommand, source: EpisodeSource, stack: ExitStack) -> EditEngine | None:
    """Start the engine that makes the edits; the stack closes it. None edits nothing."""
    if command.edit.raw:
        return None
    timeout = float(command.edit_timeout)
    if command.engine == "ray":
        from spie_robo.data.conversion.ray_engine import RayEngine

        load = partial(_load, command.edit)
        return stack.enter_context(RayEngine(load, command.workers, timeout))
    guarded = _load(command.edit)
    if guarded.guard is not None and _judges_apart(command, source):
        guarded = replace(guarded, guard=stack.enter_context(GuardProcess(guarded.guard)))
    return LocalEngine(guarded, timeout)


def _judges_apart(command: ConvertCommand, source: EpisodeSource) -> bool:
    """Return whether a second process for the guard is worth starting.

    It is where there are many frames and an idle core.
    """
    if os.name != "posix" or _cores() < 2:
        return False
    steps = sum(source.episode_length(i) for i in range(len(source)))
    cameras = command.cameras or cameras_of(source.keys)
    return steps * len(cameras) >= JUDGE_APART_FROM


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # taskset and batch systems allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load(edit: EditRequest) -> GuardedEditor:
    """Load editor and guard; a worker of Ray calls it too."""
    guarded = edit.load()
    if guarded is None:
        raise ConfigError("editor: expected one, got none.")
    return guarded
