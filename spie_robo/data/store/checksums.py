"""Compute CRC-32 of every chunk's committed rows and of every header of a store.

The checksum covers *decoded* rows: later appends rewrite a chunk that is not full yet, and its
committed rows must match their checksum before, during and after that.

A flipped bit in a header (a compression level, the name of an attribute) can leave every row
readable here and mislead another program or the next writer. Its checksum covers the parsed JSON
without the length of an array, which grows with every episode; the root's attributes hold the
commit record, which has its own checksum.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store.headers import read_header
from spie_robo.data.store.layout import ZarrFormat

_META = ("episode_ends", "seeds", "chunk_crc32")


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


def header_checksums(path: Path, keys: Iterable[str], zarr_format: ZarrFormat) -> dict[str, int]:
    """Return the checksums of the headers of both groups and of all their arrays, by folder.

    Args:
        path: Folder of the store.
        keys: Arrays of ``data/``.
        zarr_format: 2 or 3.
    """
    arrays = [f"data/{key}" for key in sorted(keys)] + [f"meta/{name}" for name in _META]
    return {name: _checksum(path, name, zarr_format) for name in ("data", "meta", *arrays)}


def changed_headers(
    path: Path, committed: Mapping[str, int], zarr_format: ZarrFormat
) -> Iterable[Path]:
    """Return the folders whose headers differ from the committed ones.

    Args:
        path: Folder of the store.
        committed: Checksums that :func:`header_checksums` gave.
        zarr_format: 2 or 3.
    """
    return [
        path / name for name, crc in committed.items() if _checksum(path, name, zarr_format) != crc
    ]


def _checksum(path: Path, folder: str, zarr_format: ZarrFormat) -> int:
    names = ("zarr.json",) if zarr_format == 3 else (".zarray", ".zgroup", ".zattrs")
    documents = [_document(path, f"{folder}/{name}") for name in names]
    return crc32(json.dumps(documents, sort_keys=True, separators=(",", ":")).encode())


def _document(path: Path, name: str) -> object:
    """Read a header without its array length; return None if it cannot be read."""
    document = read_header(path, name)
    if isinstance(document, dict) and isinstance(document.get("shape"), list):
        document["shape"] = document["shape"][1:]
    return document
