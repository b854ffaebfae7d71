"""Check the headers of a foreign file before anything is allocated.

A file from elsewhere can claim a shape of petabytes or hold a chunk that unpacks to them. Every
reader of this package asks here first.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from spie_robo.errors import StoreError

MAX_CHUNK_BYTES = 256 * 2**20
"""Decoded size of one chunk; also the size of a file of a zarr store."""

MAX_ROW_BYTES = 64 * 2**20
"""Size of one step of one array: a 4K frame in float32 still fits."""

MAX_STEPS = 2**31
"""Steps of a data set."""

MAX_HEADER_BYTES = 64 * 2**20
"""Size of a JSON document or an attribute."""

MAX_ARRAYS = 10_000
"""Arrays of a zarr store or of an episode."""

MAX_MEMBERS = 10_000_000
"""Files in a zip store."""


def check_array(
    where: str, shape: Sequence[int], dtype: object, chunks: Sequence[int] | None = None
) -> np.dtype[np.generic]:
    """Refuse an array of (steps, ...) whose header asks for too much.

    Args:
        where: File and name of the array, for the message.
        shape: Shape that the header claims.
        dtype: What numpy may understand.
        chunks: Shape of a chunk; None for an array that is not chunked.

    Returns:
        The type of its numbers.

    Raises:
        StoreError: Naming the claim and the limit.
    """
    try:
        numbers: np.dtype[np.generic] = np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise StoreError(f"{where}: dtype {dtype!r} is not one of numpy's ({error}).") from error
    if numbers.kind not in "biuf" or numbers.itemsize > 16:
        raise StoreError(
            f"{where}: expected numbers or booleans, got dtype {numbers}. Objects and texts are "
            "not read: they would be unpickled."
        )
    if not shape or any(n < 0 for n in shape):
        raise StoreError(f"{where}: expected shape (steps, ...), got {tuple(shape)}.")
    row = math.prod(shape[1:]) * numbers.itemsize
    _at_most(where, "bytes of a step", row, MAX_ROW_BYTES)
    _at_most(where, "steps", shape[0], MAX_STEPS)
    if chunks is not None:
        if len(chunks) != len(shape) or any(n < 1 for n in chunks):
            raise StoreError(f"{where}: chunks of shape {tuple(chunks)} do not cut {tuple(shape)}.")
        _at_most(where, "bytes of a chunk", math.prod(chunks) * numbers.itemsize, MAX_CHUNK_BYTES)
    return numbers


def check_size(where: str, size: int, limit: int = MAX_CHUNK_BYTES) -> None:
    """Refuse a file or a document of more than ``limit`` bytes.

    Raises:
        StoreError: Naming both.
    """
    _at_most(where, "bytes", size, limit)


def check_inside(root: Path, path: Path) -> Path:
    """Refuse a file that a symbolic link or ``..`` leads out of the data set.

    The cache of the Hugging Face Hub is made of such links: there, a file of the snapshot may lie
    in the folder ``blobs`` of the very same data set.

    Args:
        root: Folder of the data set.
        path: A file below it.

    Returns:
        ``path``, resolved.

    Raises:
        StoreError: If it is elsewhere.
    """
    resolved, inside = path.resolve(), root.resolve()
    within = resolved == inside or inside in resolved.parents
    if not within and not _is_hub_blob(inside, resolved):
        raise StoreError(
            f"{path} leads out of {root}, to {resolved}. Nothing outside a data set is read: "
            "replace the link by the file."
        )
    return resolved


def is_numeric(dtype: object) -> bool:
    """Return whether an array of this type holds numbers or booleans; a store keeps no others.

    Texts, objects and records are never read: some of them would be unpickled.
    """
    try:
        numbers: np.dtype[np.generic] = np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return dtype is None or isinstance(dtype, str)  # damaged: reading its header says so
    if dtype is None:
        return True
    return numbers.kind in "biuf"


def check_zip(path: Path) -> dict[str, int]:
    """Refuse a zip file whose members climb out or claim too much.

    A member that was appended again replaces the one before, as everywhere in zip files: zarr's
    own ``ZipStore`` writes a header anew when an array grows.

    Returns:
        Unpacked size of every file in it. They are read where they are, never extracted.

    Raises:
        StoreError: Naming the member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise StoreError(f"{path}: it cannot be read as a zip file: {error}.") from error
    _at_most(str(path), "members", len(members), MAX_MEMBERS)
    sizes: dict[str, int] = {}
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
            raise StoreError(f"{path}: member {member.filename!r} climbs out of the archive.")
        check_size(f"{path}: member {member.filename!r}", member.file_size)
        sizes[member.filename] = member.file_size
    return sizes


def _is_hub_blob(root: Path, file: Path) -> bool:
    """Return whether ``root`` is a snapshot in the Hub's cache and ``file`` one of its blobs.

    The layout is ``datasets--OWNER--NAME/{snapshots/REVISION,blobs}``; nothing else is meant.
    """
    snapshots = root.parent
    ours = snapshots.name == "snapshots" and snapshots.parent.name.startswith("datasets--")
    return ours and file.parent == snapshots.parent / "blobs" and file.is_file()


def _at_most(where: str, what: str, claimed: int, limit: int) -> None:
    if claimed > limit:
        raise StoreError(f"{where}: it claims {claimed} {what}, at most {limit} are accepted.")
