"""Edit the frames of recorded episodes: streamed, batched, resumable and checked.

``source store -> blocks of rows -> EditEngine -> rows -> WriteBehind -> output store -> read back``

Two further threads read a few blocks ahead of editing and write a few blocks behind it.

The output is committed episode by episode. After an interruption run the same command again:
committed episodes stay, the next one is made from its start, and the folder gets the bytes that an
uninterrupted run would have written. The last bits depend on torch's number of threads, so the
number of the first run is used again. Readers refuse the output as unfinished until it has been
read back and checked.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spie_robo.data.conversion.camera_choice import edited_cameras, editing_notes
from spie_robo.data.conversion.engine import Block, EditEngine, Edits, EditTask, Rows
from spie_robo.data.conversion.identity import ConversionConfig, identify, require_same
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.conversion.streams import WriteBehind, read_ahead
from spie_robo.data.conversion.threads import KEY, recorded_threads, torch_threads, using_threads
from spie_robo.data.conversion.variants import Variants, is_edited
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.registry import open_source
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.look_provenance import SYNTHETIC
from spie_robo.data.protocols import EpisodeSink, EpisodeSource
from spie_robo.data.recorded_geometry import geometry_origin, unusable_geometry
from spie_robo.data.store import fields
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.editing.description import PROVENANCE_KEYS, EditorDescription
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, StoreCorruptError, StoreError
from spie_robo.guard.acceptance import AcceptanceMonitor
from spie_robo.settings.wording import counted

READ_ROWS = 16
"""Steps to read at a time, or a block's if that is more."""

CHECK_ROWS = 64
"""Steps to read back at a time."""


@dataclass(frozen=True)
class ConvertSummary:
    """The result of a conversion into a store.

    Attributes:
        out: Folder of the output.
        episodes: Number of episodes in the output.
        frames: Number of camera frames that the editor was given; 0 for a copy.
        accepted: Number of frames that became an edit; the others stayed raw.
        resumed_at: Number of episodes that an earlier run had finished.
        notes: Parts of the source that the store does not have.
    """

    out: Path
    episodes: int
    frames: int
    accepted: int
    resumed_at: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the result in one line, with a line for each note."""
        line = f"{self.out}: {counted(self.episodes, 'episode')}"
        if self.frames:
            rate = self.accepted / self.frames
            line += f", {counted(self.frames, 'frame')}, {rate:.1%} edits accepted"
        else:
            line += " copied, nothing was edited"
        return "\n".join([line, *(f"  note: {note.rstrip('.')}" for note in self.notes)])


def convert_store(
    source: str | Path | EpisodeSource,
    out: str | Path,
    edits: GuardedEditor | EditEngine | None = None,
    config: ConversionConfig | None = None,
    *,
    progress: bool = True,
) -> ConvertSummary:
    """Edit the frames of a data set into a new store; all other data keeps its bytes.

    A camera that was edited before is edited again from its raw frames. The source is not changed.

    Args:
        source: The store to read, or a data set in a foreign format, which is detected; or the
            source that :func:`~spie_robo.data.formats.open_source` opened.
        out: Path of the output: it does not exist yet, or holds this conversion, interrupted.
        edits: Editor and guard, or the engine that runs them; None copies every frame.
        config: Frames to edit and their batches; None uses the defaults.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is no data set at ``source``, ``out`` holds something else, or the
            disk is full. The same call resumes after the episodes that were committed.
        MissingExtraError: If the format of the source needs a package that is not installed.
        StoreCorruptError: If the source is damaged, or the output does not read back as written.
        EditorError: If the editor fails.
    """
    # Open the source once, and say what would be made of it.
    config = config or ConversionConfig()
    engine = LocalEngine(edits) if isinstance(edits, GuardedEditor) else edits
    opened = open_source(source) if isinstance(source, (str, Path)) else source
    store = _repeated(opened, engine, config)
    target, path = Path(out).absolute(), store.path.absolute()
    require_apart(path, target)
    cameras = () if engine is None else edited_cameras(store, config.cameras)
    description = None if engine is None else engine.description
    identity = identify(path.name, store.fingerprint(), description, config)
    # Edit what the output lacks, read it back, and only then call it complete.
    config = replace(config, zarr_format=config.zarr_format or _native_format(opened))
    with _open_output(store, target, description, identity, config) as writer:
        resumed_at, concern = writer.n_episodes, ""
        if not writer.complete:
            begun_with = recorded_threads(writer.metadata.provenance)
            with using_threads(None if engine is None else begun_with):
                concern = convert_episodes(
                    store, writer, engine, cameras, config, progress=progress
                )
            _check(store, path, writer.path, cameras, progress)
            writer.mark_complete()
    frames, accepted = _count(target, cameras)
    concerns = (concern,) if concern else ()
    notes = (*source_notes(opened), *editing_notes(store, cameras), *concerns)
    return ConvertSummary(target, len(store), frames, accepted, resumed_at, notes)


def convert_episodes(
    source: EpisodeSource,
    sink: EpisodeSink,
    engine: EditEngine | None,
    cameras: tuple[str, ...],
    config: ConversionConfig,
    *,
    progress: bool = True,
) -> str:
    """Edit every episode that the sink does not have yet.

    Besides the sink's buffer, memory holds a few times ``batch_size`` steps, or
    :data:`READ_ROWS` if that is more, whatever the length of an episode.

    Args:
        source: Episodes to edit.
        sink: Writer of the edited episodes, in order.
        engine: Engine that makes and judges the edits; None copies the frames.
        cameras: Cameras to edit.
        config: Settings, of which ``batch_size`` and ``seed`` are used.
        progress: Show a progress bar.

    Returns:
        Why most edits were rejected and what to try; empty if they were not.
    """
    first = sink.n_episodes
    steps = sum(source.episode_length(i) for i in range(first, len(source)))
    total, unit = (steps, "step") if engine is None else (steps * len(cameras), "frame")
    threads = None if engine is None else torch_threads()
    task = EditTask(source.metadata, cameras, config.batch_size, config.seed, threads)
    edited = _edit(source, engine, task, first)
    tried, accepted, monitor = 0, 0, AcceptanceMonitor()
    bar = tqdm(total=total, desc="convert", unit=unit, disable=not progress)
    with bar, WriteBehind(sink) as writing, closing(edited):
        for block, edits in edited:
            if block.start == 0:
                seed = int(source.seeds[block.episode])
                writing.begin_episode(None if seed < 0 else seed)
            writing.extend(_edited_rows(dict(block.rows), edits))
            if block.last:
                writing.end_episode()
            results = [edit for of_camera in edits.values() for edit in of_camera]
            monitor.count(results)
            tried += len(results) * block.edited
            accepted += sum(edit.edited for edit in results)
            if engine is not None:
                bar.set_postfix(accepted=f"{accepted / max(1, tried):.0%}", refresh=False)
            bar.update(block.steps if engine is None else len(results))
    return monitor.concern


def _edit(
    source: EpisodeSource, engine: EditEngine | None, task: EditTask, first: int
) -> Generator[tuple[Block, Edits], None, None]:
    with closing(read_ahead(_read(source, first, task.batch_size))) as blocks:
        if engine is None:
            yield from ((block, {}) for block in blocks)
            return
        edited = engine.edit(task, blocks)
        with closing(cast("Generator[tuple[Block, Edits], None, None]", edited)):
            yield from edited


def _read(source: EpisodeSource, first: int, size: int) -> Iterator[Block]:
    """Yield blocks of ``size`` steps; several are read at once, as each read costs milliseconds."""
    at_once = size * -(-READ_ROWS // size)
    for i in range(first, len(source)):
        length = source.episode_length(i)
        for start, stop in _blocks(length, at_once):
            rows = source.read_rows(i, start, stop)
            for begin, end in _blocks(stop - start, size):
                block = {key: array[begin:end] for key, array in rows.items()}
                last = start + end == length
                yield Block(i, start + begin, block, last, is_edited(source, i))


def _edited_rows(rows: Rows, edits: Edits) -> Rows:
    """Return the rows with new frames and verdicts; all other arrays stay the same."""
    result = dict(rows)
    for camera, of_camera in edits.items():
        # Verdicts of an earlier editor, perhaps by other measurements, are not of these edits.
        for key in fields.verdict_keys(rows, camera).values():
            del result[key]
        result[fields.raw_key(camera)] = _raw(rows, camera)
        result[fields.rgb_key(camera)] = np.stack([edit.rgb for edit in of_camera])
        result |= fields.realism_columns(camera, of_camera)
    return result


def _raw(rows: Rows, camera: str) -> NDArray[Any]:
    return rows.get(fields.raw_key(camera), rows[fields.rgb_key(camera)])


def _blocks(length: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, length)) for start in range(0, length, size))


def source_notes(source: EpisodeSource) -> tuple[str, ...]:
    """Return notes on the parts of a foreign data set that its reader left out."""
    record = SourceRecord.of(source.metadata) if isinstance(source, ForeignSource) else None
    return () if record is None else record.notes


def require_apart(source: Path, out: Path) -> None:
    """Refuse an output that is the input, inside it or around it.

    Raises:
        StoreError: If they overlap.
    """
    first, second = source.resolve(), out.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise StoreError(f"The output {out} overlaps the input {source}. Choose another output.")


def _open_output(
    store: EpisodeSource,
    out: Path,
    description: EditorDescription | None,
    identity: dict[str, Any],
    config: ConversionConfig,
) -> EpisodeWriter:
    # Resume an output that the same conversion began.
    if out.exists():
        writer = EpisodeWriter.open(out)
        try:
            require_same(out, writer.metadata.provenance.get("conversion"), identity)
        except StoreError:
            writer.close()
            raise
        return writer
    # Or create one, with the provenance of the source and of these edits.
    provenance = {**store.metadata.provenance, "conversion": identity}
    if description is not None:  # drop the description of an earlier editor
        kept = {key: value for key, value in provenance.items() if key not in PROVENANCE_KEYS}
        provenance = kept | description.provenance | {KEY: torch_threads()}
    else:
        provenance.pop(KEY, None)
    present = fields.cameras_of(store.keys)
    usable = set(store.keys) - set(unusable_geometry(store, present))
    provenance["geometry"] = {c: geometry_origin(store.metadata, usable, c) for c in present}
    metadata = replace(store.metadata, provenance=provenance)
    if description is not None:
        instruction = description.instruction or description.own_instruction
        metadata = replace(metadata, editor_id=description.editor, instruction=instruction)
    zarr_format = config.zarr_format or 3
    return EpisodeWriter.create(out, metadata, zarr_format=zarr_format, complete=False)


def _repeated(
    source: EpisodeSource, engine: EditEngine | None, config: ConversionConfig
) -> EpisodeSource:
    """Return the source, with every episode once for each look that is asked for.

    Raises:
        ConfigError: If looks are asked for and there is no editor.
    """
    if config.variants is None:
        return source
    if engine is None:
        raise ConfigError("variants: expected an editor for them, got none.")
    return Variants(source, config.variants, keep_raw=config.keep_raw, seed=config.seed)


def _native_format(source: EpisodeSource) -> ZarrFormat:
    return source.zarr_format if isinstance(source, EpisodeStore) else 3


def _check(
    source: EpisodeSource, path: Path, out: Path, cameras: tuple[str, ...], progress: bool
) -> None:
    """Read the output back: edited chunks must be intact, all other data equal to the source."""
    result = EpisodeStore.open(out, allow_unfinished=True)
    made = {fields.rgb_key(c) for c in cameras} | {fields.raw_key(c) for c in cameras}
    made |= {key for c in cameras for key in fields.verdict_keys(source.keys, c).values()}
    kept = [key for key in source.keys if key not in made]
    lengths = [source.episode_length(i) for i in range(len(source))]
    same = [result.episode_length(i) for i in range(len(result))] == lengths
    if not same or not np.array_equal(result.seeds, source.seeds):
        raise StoreCorruptError(f"{out}: its episodes are not those of {path}.")
    with tqdm(total=sum(lengths), desc="check", unit="step", disable=not progress) as bar:
        for i in range(len(source)):
            for start, stop in _blocks(source.episode_length(i), CHECK_ROWS):
                before, after = source.read_rows(i, start, stop), result.read_rows(i, start, stop)
                expected = {key: before[key] for key in kept}
                expected |= {fields.raw_key(c): _raw(before, c) for c in cameras}
                for key, rows in expected.items():
                    if rows.tobytes() != after[key].tobytes():
                        raise StoreCorruptError(
                            f"{out}: {key} of episode {i} is not what was written. Delete the "
                            "output and convert again; if it happens again, check the disk."
                        )
                bar.update(stop - start)


def _count(out: Path, cameras: tuple[str, ...]) -> tuple[int, int]:
    """Return the frames edited and the edits accepted in the whole output, over all runs."""
    store = EpisodeStore.open(out)
    columns = [store.array(fields.realism_key(c, "edited")) for c in cameras] if len(store) else []
    accepted = sum(int(column.read(0, store.n_steps).sum()) for column in columns)
    steps = store.n_steps
    if SYNTHETIC in store.keys and len(store):
        steps = int(store.array(SYNTHETIC).read(0, store.n_steps).sum())
    return steps * len(cameras), accepted
