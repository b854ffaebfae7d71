"""Read rows of one array and check that they are the committed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray

from spie_robo.data.store.checksums import crc32
from spie_robo.data.store.commit import ArrayCommit, Commit
from spie_robo.data.store.headers import require_ours
from spie_robo.data.store.layout import ZarrArray, row_format
from spie_robo.errors import StoreCorruptError, StoreError

_FREE_META_BYTES = 64 * 2**20
_MAX_META_RATIO = 256  # checksums hardly compress, cumulative ends less than hundredfold


@final
class CheckedArray:
    """One array of ``data/``, cut to its committed rows; each chunk is checked when it is read.

    Raises:
        StoreCorruptError: If the array is missing or differs from the commit record.
    """

    def __init__(
        self, root: zarr.Group, path: Path, key: str, commit: Commit, checksums: NDArray[np.int64]
    ) -> None:
        """Open ``data/<key>``; ``checksums`` are those of its full chunks in order."""
        self.key = key
        self._folder = path / "data" / key
        self._committed: ArrayCommit = commit.arrays[key]
        self._steps = commit.steps
        self._checksums = checksums
        self._array = open_checked(root, path, f"data/{key}")
        self._begun: tuple[int, NDArray[Any]] | None = None
        self._check_layout()

    @property
    def n_chunks(self) -> int:
        """Number of chunks that hold committed rows."""
        return -(-self._steps // self._committed.chunk_rows)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows ``start`` to ``stop`` as a new array.

        A chunk that is read in part is kept for the next call, so that reading in small steps
        decodes and checks each chunk once.

        Raises:
            StoreCorruptError: If a chunk of these rows is missing or fails its checksum.
        """
        if stop <= start:
            return np.empty((0, *self._committed.row.shape), self._committed.row.dtype)
        size = self._committed.chunk_rows
        first, last = start // size, (stop - 1) // size
        begun = self._begun  # read it once, because another thread may replace it
        if begun is None or begun[0] != first:
            rows = self._read_chunks(first, last)
        elif first == last:
            return begun[1][start - first * size : stop - first * size].copy()
        else:
            rows = np.concatenate([begun[1], self._read_chunks(first + 1, last)])
        unfinished = stop < min((last + 1) * size, self._steps)
        self._begun = (last, rows[(last - first) * size :].copy()) if unfinished else None
        return rows[start - first * size : stop - first * size]

    def problem(self, chunk: int) -> str | None:
        """Return the damage of a chunk in one sentence, or None."""
        try:
            self._read_chunks(chunk, chunk)
        except StoreCorruptError as error:
            return str(error)
        return None

    def _read_chunks(self, first: int, last: int) -> NDArray[Any]:
        size = self._committed.chunk_rows
        start, stop = first * size, min((last + 1) * size, self._steps)
        for number in range(self._file_number(first), self._file_number(last) + 1):
            file = self._file(number)
            if not file.is_file():
                raise self._corrupt(start, stop, f"{file} is missing")
        try:
            rows = np.asarray(self._array[start:stop])
        except Exception as error:  # codecs raise any exception on damaged bytes
            raise self._corrupt(start, stop, f"it cannot be decoded ({error})") from error
        for chunk in range(first, last + 1):
            begin = chunk * size - start
            if crc32(rows[begin : begin + size]) != self._checksum(chunk):
                bounds = chunk * size, min((chunk + 1) * size, self._steps)
                file = self._file(self._file_number(chunk))
                raise self._corrupt(*bounds, f"{file} fails its checksum")
        return rows

    def _checksum(self, chunk: int) -> int:
        if chunk < len(self._checksums):
            return int(self._checksums[chunk])
        return self._committed.tail_crc32

    def _file_number(self, chunk: int) -> int:
        rows_in_file = (self._array.shards or self._array.chunks)[0]
        return chunk * self._committed.chunk_rows // rows_in_file

    def _file(self, number: int) -> Path:
        coordinates = (number, *(0 for _ in self._committed.row.shape))
        return self._folder / self._array.metadata.encode_chunk_key(coordinates)

    def _corrupt(self, start: int, stop: int, what: str) -> StoreCorruptError:
        return StoreCorruptError(
            f"{self._folder}, steps {start} to {stop - 1}: {what}. Run `spie-robo verify` to see "
            "all damage; restore the store from a copy, or record or convert it again."
        )

    def _check_layout(self) -> None:
        committed, array = self._committed, self._array
        try:
            row = row_format(self.key, np.empty((0, *array.shape[1:]), array.dtype))
        except (StoreError, TypeError) as error:
            raise StoreCorruptError(f"{self._folder}: {error}") from error
        expected = (committed.row, committed.chunk_rows)
        if (row, array.chunks[0]) != expected or array.shape[0] < self._steps:
            raise StoreCorruptError(
                f"{self._folder}: expected at least {self._steps} rows of {committed.row} in "
                f"chunks of {committed.chunk_rows}, found shape {array.shape} of {array.dtype} in "
                f"chunks of {array.chunks[0]}. Restore the store from a copy."
            )
        if len(self._checksums) != self._steps // committed.chunk_rows:
            raise StoreCorruptError(
                f"{self._folder}: expected {self._steps // committed.chunk_rows} checksums, found "
                f"{len(self._checksums)}. Restore the store from a copy."
            )


def open_checked(root: zarr.Group, path: Path, name: str) -> ZarrArray:
    """Open an array of a store for reading.

    Raises:
        StoreCorruptError: If the array is missing or its metadata is damaged.
    """
    try:
        array = root[name]
    except Exception as error:  # damaged metadata fails in as many ways as there are parsers
        raise StoreCorruptError(
            f"{path / name}: the array is missing or its metadata is damaged ({error!r}). Restore "
            "the store from a copy."
        ) from error
    if not isinstance(array, zarr.Array):
        raise StoreCorruptError(f"{path / name}: expected an array, found a group.")
    return require_ours(array, path / name)


def read_meta(root: zarr.Group, path: Path, name: str, commit: Commit) -> NDArray[np.int64]:
    """Return the committed rows of an array of ``meta/``.

    Raises:
        StoreCorruptError: If the array is missing or fails its checksum.
    """
    length = commit.checksums if name == "chunk_crc32" else commit.episodes
    array = open_checked(root, path, f"meta/{name}")
    _require_backed(array, path / "meta" / name, length)
    try:
        rows = np.asarray(array[:length], np.int64)
    except Exception as error:  # codecs raise any exception on damaged bytes
        raise StoreCorruptError(f"{path}/meta/{name}: it cannot be decoded ({error}).") from error
    if len(rows) != length or crc32(rows) != commit.meta_crc32.get(name):
        raise StoreCorruptError(
            f"{path}/meta/{name}: it fails its checksum. Restore the store from a copy."
        )
    return rows


def _require_backed(array: ZarrArray, folder: Path, length: int) -> None:
    """Refuse a length that the files cannot hold; zarr would fill the missing rows with zeros."""
    claimed = min(length, array.shape[0]) * int(np.prod(array.shape[1:])) * array.dtype.itemsize
    if claimed <= _FREE_META_BYTES:
        return
    on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if claimed > _MAX_META_RATIO * on_disk:
        raise StoreCorruptError(
            f"{folder}: the commit record claims {claimed} bytes, its files have {on_disk}. "
            "Restore the store from a copy."
        )
