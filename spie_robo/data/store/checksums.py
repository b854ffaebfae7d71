"""Compute CRC-32 of every chunk's committed rows while rows are appended.

The checksum covers *decoded* rows: later appends rewrite a chunk that is not full yet, and its
committed rows must match their checksum before, during and after that.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def crc32(data: NDArray[Any] | bytes, start: int = 0) -> int:
    """Return the CRC-32 of the bytes of ``data``, continuing from the checksum ``start``."""
    if isinstance(data, bytes):
        return zlib.crc32(data, start)
    if data.size == 0:
        return start
    return zlib.crc32(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data, start)


def extend_checksums(
    tail: int, row: int, rows: NDArray[Any], chunk_rows: int
) -> tuple[list[tuple[int, int]], int]:
    """Update the checksums for rows appended at position ``row``.

    Args:
        tail: Checksum of the rows already in the chunk of ``row``; 0 if there are none.
        row: Index of the first new row in the array.
        rows: The new rows, (n, ...).
        chunk_rows: Rows in a chunk.

    Returns:
        ``(chunk, checksum)`` of every chunk that is now full, and the checksum of the rows in
        the last chunk.
    """
    full: list[tuple[int, int]] = []
    done = 0
    while done < len(rows):
        chunk, offset = divmod(row + done, chunk_rows)
        take = min(chunk_rows - offset, len(rows) - done)
        tail = crc32(rows[done : done + take], tail)
        done += take
        if offset + take == chunk_rows:
            full.append((chunk, tail))
            tail = 0
    return full, tail
