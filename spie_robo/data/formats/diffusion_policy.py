"""Diffusion Policy's replay buffer: zarr v2, in a folder or in one zip file.

Format: ``diffusion_policy/common/replay_buffer.py`` of real-stanford/diffusion_policy::

    data/<key>          (T, ...)  all episodes one after another; any key
    meta/episode_ends   int64 (N,), cumulative, exclusive

UMI's ``dataset.zarr.zip`` is the zip form with one frame a chunk and keys such as ``camera0_rgb``
and ``robot0_eef_pos``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.naming import ForeignArray, map_arrays, standard_names
from spie_robo.data.formats.source_record import (
    PASSENGER,
    SourceRecord,
    arrays_for,
    no_seeds,
    pack,
    plain,
    unpack,
    with_source,
)
from spie_robo.data.formats.written import Written
from spie_robo.data.formats.zarr_files import open_zarr
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreCorruptError, StoreError
from spie_robo.files.staged import remove_path, require_room

Name = Literal["diffusion-policy", "diffusion-policy-zip", "umi"]

CHUNK_BYTES = 1024 * 1024
"""Decoded size of a chunk of the arrays that are written; UMI has one frame a chunk."""

_ENDS = "meta/episode_ends"
_DATE = (1980, 1, 1, 0, 0, 0)
_BLOCK_ROWS = 64


@final
class ReplayBufferSource(ForeignSource):
    """Reads a replay buffer; see the module for its layout."""

    def __init__(self, path: Path, name: Name) -> None:
        """Open the replay buffer at ``path``.

        Raises:
            StoreError: If it is damaged or asks for too much.
            MissingExtraError: If it holds JPEG XL and the package imagecodecs is absent.
        """
        self._files = open_zarr(path)
        ends = self._episode_ends(path)
        found = {
            array.removeprefix("data/"): (np.dtype(header.dtype), header.shape[1:])
            for array, header in self._files.headers.items()
            if array.startswith("data/")
        }
        for array, header in self._files.headers.items():
            if array.startswith("data/") and header.shape[:1] != (int(ends[-1]),):
                raise StoreError(
                    f"{path}: {array} has shape {header.shape}, meta/episode_ends says "
                    f"{int(ends[-1])} steps. Every array of data/ has one row a step."
                )
        lengths = np.diff(np.concatenate([[0], ends])).tolist()
        passenger = self._files.attributes.get(PASSENGER)
        numbers = _unchanged(passenger, lengths)
        travelled = unpack(passenger, len(ends), str(path), numbers)
        record = None if travelled is None else SourceRecord.of(travelled[0])
        known = record.arrays if record is not None and record.format == name else ()
        arrays = map_arrays(found, known, standard_names(found), ours=travelled is not None)
        described = self._describe(name, arrays)
        if travelled is None:
            metadata, seeds = with_source(StoreMetadata(), described), no_seeds(len(ends))
        else:
            metadata, seeds = _refreshed(travelled[0], name, described), travelled[1]
        super().__init__(path, arrays, lengths, metadata, seeds)
        self._starts = np.concatenate([[0], ends[:-1]])

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        first = int(self._starts[episode])
        return self._rows(f"data/{array.name}", first + start, first + stop)

    def _rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        try:
            array = self._files.root[name]
            if not isinstance(array, zarr.Array):
                raise KeyError(name)
            return np.asarray(array[start:stop])
        except StoreError:
            raise
        except Exception as error:  # codecs raise whatever they like on damaged bytes
            raise StoreCorruptError(f"{name}: it cannot be decoded ({error!r}).") from error

    def _episode_ends(self, path: Path) -> NDArray[np.int64]:
        header = self._files.headers.get(_ENDS)
        if header is None or len(header.shape) != 1 or not header.shape[0]:
            raise StoreError(f"{path}: expected episodes in {_ENDS}, found none.")
        ends = self._rows(_ENDS, 0, header.shape[0]).astype(np.int64)
        if (np.diff(np.concatenate([[0], ends])) <= 0).any():
            raise StoreError(f"{path}: {_ENDS} does not grow from episode to episode.")
        return ends

    def _describe(self, name: Name, arrays: tuple[ForeignArray, ...]) -> SourceRecord:
        others = [n for n in self._files.headers if not n.startswith("data/") and n != _ENDS]
        meta = {}
        notes = [f"{array} was not kept: {why}." for array, why in self._files.left_out.items()]
        for other in sorted(others):
            header = self._files.headers[other]
            if header.chunk_bytes * max(1, len(header.shape)) > CHUNK_BYTES:
                notes.append(f"{other} was not kept: it is too large for metadata.")
                continue
            rows = self._rows(other, 0, (header.shape or (1,))[0]) if header.shape else None
            meta[other] = {"dtype": header.dtype, "values": plain(rows)}
        attributes = {n: v for n, v in self._files.attributes.items() if n != PASSENGER}
        extras = {"attributes": plain(attributes), "meta": meta}
        return SourceRecord(name, arrays, notes=tuple(notes), extras=extras)


def _unchanged(passenger: object, lengths: list[int]) -> list[int] | None:
    """Return the written episode that each one is, -1 for one appended or replaced since.

    ``ReplayBuffer`` appends and drops episodes at the end: those before the first one of another
    length are the ones that were written.
    """
    declared = passenger.get("lengths") if isinstance(passenger, Mapping) else None
    if not isinstance(declared, list):
        return None
    same = 0
    while same < min(len(declared), len(lengths)) and declared[same] == lengths[same]:
        same += 1
    return [number if number < same else -1 for number in range(len(lengths))]


def _refreshed(metadata: StoreMetadata, name: Name, here: SourceRecord) -> StoreMetadata:
    """Return the stored metadata, with what the buffer itself says where that has changed."""
    record = SourceRecord.of(metadata)
    if record is None or record.format != name:
        return metadata
    changed = {n: here.extras[n] for n in ("attributes", "meta")}
    kept = {n: record.extras.get(n, {}) for n in changed}
    if changed == kept:
        return metadata
    return with_source(metadata, replace(record, extras={**record.extras, **changed}))


def write_replay_buffer(
    source: EpisodeSource, out: Path, fps: float | None = None, *, name: Name
) -> Written:
    """Write ``source`` as a replay buffer; every array bit by bit.

    Args:
        source: Episodes to write.
        out: Folder, or zip file, to make.
        fps: Not needed.
        name: Which of the three; ``umi`` has one frame a chunk.

    Raises:
        StoreError: If the source is damaged.
        OSError: If the disk refuses.
    """
    if name == "diffusion-policy":
        _write_folder(source, out, name)
        return Written()
    folder = out.with_name(f"{out.name}.folder")
    try:
        remove_path(folder)
        _write_folder(source, folder, name)
        _pack_zip(folder, out)
    finally:
        remove_path(folder)
    return Written()


def _write_folder(source: EpisodeSource, folder: Path, name: Name) -> None:
    root = zarr.create_group(LocalStore(folder), zarr_format=2)
    root.attrs.update({**_attributes(source, name), PASSENGER: pack(source)})
    lengths = [source.episode_length(i) for i in range(len(source))]
    group, meta = root.create_group("data"), root.create_group("meta")
    ends = np.cumsum(lengths, dtype=np.int64)
    for key, values in {"episode_ends": ends, **_kept_meta(source, name)}.items():
        _new_array(meta, key, values.dtype, values.shape, values.shape)[...] = values
    places, first = arrays_for(source, name), source.read_rows(0, 0, 1)
    for key in source.keys:
        place = places.get(key)
        row = first[key] if place is None else place.to_file(first[key])
        shape = (int(ends[-1]), *row.shape[1:])
        per_chunk = max(1, min(CHUNK_BYTES // max(1, row.nbytes), 1024, shape[0]))
        one = name == "umi" and row.ndim == 4
        chunks = (1 if one else per_chunk, *row.shape[1:])
        label = key if place is None else place.name
        array = _new_array(group, label, row.dtype, shape, chunks)
        for start, rows in _blocks(source, key, chunks[0]):
            require_room(folder, rows.nbytes)
            array[start : start + len(rows)] = rows if place is None else place.to_file(rows)


def _blocks(source: EpisodeSource, key: str, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the rows of a key over all episodes, cut where chunks of ``size`` rows end."""
    size *= max(1, _BLOCK_ROWS // size)
    waiting: list[NDArray[Any]] = []
    start = held = 0
    for episode in range(len(source)):
        length = source.episode_length(episode)
        position = 0
        while position < length:
            stop = min(length, position + size - held)
            waiting.append(source.read_rows(episode, position, stop, [key])[key])
            held += stop - position
            position = stop
            if held == size:
                yield start, np.concatenate(waiting)
                start, held, waiting = start + size, 0, []
    if waiting:
        yield start, np.concatenate(waiting)


def _new_array(
    group: zarr.Group,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
) -> Any:
    shuffle = int(dtype.itemsize > 1)
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        compressors=numcodecs.Blosc("zstd", clevel=5, shuffle=shuffle),
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def _attributes(source: EpisodeSource, name: Name) -> Mapping[str, Any]:
    record = SourceRecord.of(source.metadata)
    if record is None or record.format != name:
        return {}
    return dict(record.extras.get("attributes", {}))


def _kept_meta(source: EpisodeSource, name: Name) -> dict[str, NDArray[Any]]:
    """Return the source's arrays beside ``data/``, by their name below ``meta/``."""
    record = SourceRecord.of(source.metadata)
    kept = {} if record is None or record.format != name else record.extras.get("meta", {})
    return {
        key.removeprefix("meta/"): np.array(item["values"], item["dtype"])
        for key, item in kept.items()
        if key.startswith("meta/") and item["values"] is not None
    }


def _pack_zip(folder: Path, out: Path) -> None:
    """Pack a folder as zarr's ``ZipStore`` does: stored, not deflated; always the same bytes."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            name = str(file.relative_to(folder))
            with (
                file.open("rb") as stream,
                archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as member,
            ):
                while block := stream.read(CHUNK_BYTES):
                    member.write(block)
