"""Compute CRC-32 of the headers of a store, to find damage that decoding may not notice.

A flipped bit in a header (a compression level, the name of an attribute) can leave every row
readable here and mislead another program or the next writer. The checksum covers the parsed JSON
without the length of an array, which grows with every episode; the root's attributes hold the
commit record, which has its own checksum.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from spie_robo.data.store.checksums import crc32
from spie_robo.data.store.headers import read_header
from spie_robo.data.store.layout import ZarrFormat

_META = ("episode_ends", "seeds", "chunk_crc32")


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
