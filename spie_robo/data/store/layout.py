"""Define the layout of a store and the chunks of its arrays.

The layout is described once, in :class:`spie_robo.data.store.episode_store.EpisodeStore`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from spie_robo.data.store.durable import DurableStore
from spie_robo.errors import StoreError
from spie_robo.files.atomic import sync_directory, write_failure

ZarrFormat = Literal[2, 3]
ZarrArray: TypeAlias = "zarr.Array[Any]"

CHUNK_BYTES = 256 * 1024
"""Decoded size of a chunk with sharding: reading one random row decodes this much."""

FILE_BYTES = 8 * 1024 * 1024
"""Decoded size of a shard: appending to one that is not full rewrites it."""

FILE_BYTES_V2 = 1024 * 1024
"""Decoded size of a chunk without sharding, where a chunk is a file."""

MAX_CHUNK_ROWS = 1024
CHECKSUM_COLUMNS = 3
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")


@dataclass(frozen=True)
class RowFormat:
    """Type and shape of one time step of an array.

    Attributes:
        dtype: Numpy name of a number type, little endian, e.g. ``"float32"``.
        shape: Shape without the time axis.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Size of one row, bytes."""
        return max(1, np.dtype(self.dtype).itemsize * int(np.prod(self.shape, dtype=np.int64)))


def row_format(key: str, rows: NDArray[Any]) -> RowFormat:
    """Describe the rows of an array of shape (steps, ...).

    Raises:
        StoreError: If the key or the type cannot be stored.
    """
    if not _KEY.fullmatch(key):
        raise StoreError(
            f"Key {key!r}: expected letters, digits, '_' and '-', starting with a letter or digit."
        )
    if rows.dtype.kind not in "biuf":
        raise StoreError(
            f"Key {key!r}: expected numbers or booleans, got dtype {rows.dtype}. Convert it before "
            "it is stored."
        )
    if 0 in rows.shape[1:]:
        raise StoreError(f"Key {key!r}: rows of shape {rows.shape[1:]} hold nothing.")
    return RowFormat(rows.dtype.newbyteorder("=").name, rows.shape[1:])


def chunk_rows(row: RowFormat, zarr_format: ZarrFormat) -> tuple[int, int | None]:
    """Return the rows in a chunk and, with sharding, in a shard (a multiple of it)."""
    if zarr_format == 2:
        return max(1, min(FILE_BYTES_V2 // row.row_bytes, MAX_CHUNK_ROWS)), None
    rows = max(1, min(CHUNK_BYTES // row.row_bytes, MAX_CHUNK_ROWS))
    return rows, rows * max(1, min(FILE_BYTES // (rows * row.row_bytes), 64))


def create_array(group: zarr.Group, key: str, row: RowFormat, zarr_format: ZarrFormat) -> ZarrArray:
    """Add an empty array to a group.

    Returns:
        The array without rows. All-zero chunks are written like any other, so that a missing file
        is always an error.
    """
    rows, shard = chunk_rows(row, zarr_format)
    shuffle = np.dtype(row.dtype).itemsize > 1
    compressors: Any
    if zarr_format == 2:
        compressors = numcodecs.Blosc("zstd", clevel=3, shuffle=int(shuffle))
    else:
        blosc = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle" if shuffle else "noshuffle")
        compressors = [blosc, Crc32cCodec()]
    return group.create_array(
        key,
        shape=(0, *row.shape),
        dtype=row.dtype,
        chunks=(rows, *row.shape),
        shards=None if shard is None else (shard, *row.shape),
        compressors=compressors,
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def open_array(group: zarr.Group, key: str) -> ZarrArray:
    """Open an array of a group for writing, all-zero chunks included.

    Raises:
        KeyError: If there is no such array.
    """
    array = group[key]
    if not isinstance(array, zarr.Array):
        raise KeyError(key)
    return array.with_config({"write_empty_chunks": True})


def create_skeleton(path: Path, zarr_format: ZarrFormat, attributes: dict[str, Any]) -> None:
    """Create a store without episodes at ``path`` in one step.

    It is built under another name and renamed, so that no reader sees half of it.

    Args:
        path: A path that does not exist, or an empty folder.
        zarr_format: 2 or 3.
        attributes: Root attributes, with the first commit record.

    Raises:
        StoreError: If the path is in use, or the disk fails.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(
            f"{path} already exists: a new store needs a path where nothing is. Choose another "
            "path, append to the store that is there, or delete it."
        )
    building = path.with_name(f".{path.name}.creating")
    try:
        shutil.rmtree(building, ignore_errors=True)
        store = DurableStore(LocalStore(building))
        root = zarr.create_group(store, zarr_format=zarr_format, attributes=attributes)
        root.create_group("data")
        meta = root.create_group("meta")
        create_array(meta, "episode_ends", RowFormat("int64", ()), zarr_format)
        create_array(meta, "seeds", RowFormat("int64", ()), zarr_format)
        create_array(meta, "chunk_crc32", RowFormat("int64", (CHECKSUM_COLUMNS,)), zarr_format)
        store.sync()
        os.replace(building, path)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    sync_directory(path.parent)
