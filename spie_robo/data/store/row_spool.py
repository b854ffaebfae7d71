"""Keep the rows of an unfinished episode: the newest in memory, all others in a temporary file.

A writer writes one episode at a time, but the episodes of a vector env overlap. Each waits in its
own spool until it ends, and is then copied into the store block by block.

The file has no name: the operating system removes it when the process ends in any way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import numcodecs  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store.fields import stack_rows
from spie_robo.errors import StoreError
from spie_robo.files.atomic import write_failure

BLOCK_BYTES = 16 * 2**20
"""Size of the rows in memory at which they are moved to the file, bytes."""

_PACKER = numcodecs.Blosc("lz4", clevel=1)


@dataclass(frozen=True)
class _Packed:
    """One array of one block in the file."""

    key: str
    start: int
    size: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@final
class RowSpool:
    """The rows of one episode, until :meth:`blocks` returns them in order.

    Example:
        >>> import tempfile, numpy as np
        >>> spool = RowSpool(tempfile.mkdtemp(), block_bytes=16)
        >>> for step in range(3):
        ...     spool.append({"state": np.full(2, step, np.float64)})
        >>> [block["state"].shape for block in spool.blocks()]
        [(1, 2), (1, 2), (1, 2)]
        >>> spool.clear()
    """

    def __init__(self, folder: str | Path, block_bytes: int = BLOCK_BYTES) -> None:
        """Keep rows in memory and in a file beside a store.

        Args:
            folder: An existing folder on the store's disk.
            block_bytes: Size of the rows that are kept in memory, bytes.
        """
        self._folder = Path(folder)
        self._block_bytes = block_bytes
        self._rows: list[Mapping[str, NDArray[Any]]] = []
        self._formats: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._blocks: list[list[_Packed]] = []

    def __bool__(self) -> bool:
        """Return whether there are rows."""
        return bool(self._rows or self._blocks)

    def append(self, row: Mapping[str, NDArray[Any]]) -> None:
        """Add one step.

        Args:
            row: One array a key, without a time axis; it is kept without a copy.

        Raises:
            StoreError: If its keys, types or shapes differ from the first row's, or the disk is
                full.
        """
        formats = {key: (value.dtype, value.shape) for key, value in row.items()}
        if self._formats and formats != self._formats:
            raise _changed(self._formats, formats)
        self._formats = formats
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values())
        if self._bytes >= self._block_bytes:
            self._move_to_file()

    def blocks(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the rows in order, as arrays of shape (steps, ...).

        Raises:
            StoreError: If the temporary file cannot be read.
        """
        for block in self._blocks:
            yield {packed.key: self._unpack(packed) for packed in block}
        if self._rows:
            yield stack_rows(self._rows)

    def clear(self) -> None:
        """Delete all rows and free their disk space."""
        self._rows, self._blocks, self._formats, self._bytes = [], [], {}, 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _move_to_file(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)
            # Go to the end: after a failed write the position may be anywhere.
            block, start = [], self._file.seek(0, 2)
            for key in self._formats:
                # Stack one key at a time, so that only one array of the block is in memory twice.
                array = np.stack([row[key] for row in self._rows])
                data = _PACKER.encode(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
                self._file.write(data)
                block.append(_Packed(key, start, len(data), array.dtype, array.shape))
                start += len(data)
            self._file.flush()
        except OSError as error:
            raise write_failure(self._folder, error) from error
        self._blocks.append(block)
        self._rows, self._bytes = [], 0

    def _unpack(self, packed: _Packed) -> NDArray[Any]:
        if self._file is None:
            raise StoreError("The rows of this episode were given up. Record it again.")
        try:
            self._file.seek(packed.start)
            data = self._file.read(packed.size)
        except OSError as error:
            raise write_failure(self._folder, error) from error
        flat = np.frombuffer(_PACKER.decode(data), np.uint8)
        array: NDArray[Any] = flat.view(packed.dtype).reshape(packed.shape)
        return array


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> StoreError:
    """Return the error for a row that differs from the rows before it."""
    wrong = sorted(key for key in before.keys() | now if before.get(key) != now.get(key))

    def named(formats: Mapping[str, Any], key: str) -> str:
        return f"{formats[key][0]} {formats[key][1]}" if key in formats else "no such key"

    changes = "; ".join(
        f"{key}: expected {named(before, key)}, got {named(now, key)}" for key in wrong
    )
    return StoreError(
        f"Every step of an episode has the same keys, types and shapes. {changes}. Give the "
        "observation one shape, for example with gymnasium.wrappers.TransformObservation."
    )
