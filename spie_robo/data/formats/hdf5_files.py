"""HDF5 from elsewhere: opened without following links out of it, headers checked before use."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.errors import StoreCorruptError, StoreError

if TYPE_CHECKING:
    import h5py

_FILTERS = {1, 2, 3, 32000}
"""deflate, shuffle, fletcher32, lzf: those that HDF5 and h5py bring along; no plugin is loaded."""

_DEPTH = 16
"""Groups inside groups that are followed."""


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises:
        MissingExtraError: If h5py is not installed.
        StoreError: If it cannot be read.
    """
    library = need("h5py")
    try:
        file: h5py.File = library.File(path, "r")
    except OSError as error:
        raise StoreError(f"{path}: it cannot be read as HDF5: {error}.") from error
    return file


def demos_in(path: Path) -> tuple[str, ...]:
    """Names of the groups ``data/demo_*`` of a robomimic file; empty if it is another file."""
    with open_hdf5(path) as file:
        data = child_group(file, "data")
        return () if data is None else tuple(n for n in data if str(n).startswith("demo"))


def child_group(group: h5py.Group, name: str) -> h5py.Group | None:
    """A group inside a group; None if there is none, or only a link to another file."""
    library = need("h5py")
    if not isinstance(group.get(name, getlink=True), library.HardLink):
        return None
    found = group.get(name)
    return found if isinstance(found, library.Group) else None


def datasets_below(group: h5py.Group, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array below a group with its path from there.

    Raises:
        StoreError: If a link leads elsewhere, groups are nested without end, or there are too many.
    """
    library = need("h5py")
    found = 0
    waiting: list[tuple[str, h5py.Group]] = [("", group)]
    while waiting:
        prefix, current = waiting.pop(0)
        for name in current:
            path = f"{prefix}{name}"
            if not isinstance(current.get(name, getlink=True), library.HardLink):
                raise StoreError(
                    f"{where}: {path} is a link to another place. Only what lies in the file "
                    "itself is read: copy it there (h5repack, or h5py's Group.copy)."
                )
            item = current[name]
            found += 1
            limits.check_size(f"{where}: arrays", found, limits.MAX_ARRAYS)
            if isinstance(item, library.Group):
                if path.count("/") >= _DEPTH:
                    raise StoreError(f"{where}: groups are nested deeper than {_DEPTH}.")
                waiting.append((f"{path}/", item))
            elif isinstance(item, library.Dataset):
                yield path, item


def check_dataset(where: str, dataset: h5py.Dataset) -> None:
    """Refuse an array whose header asks for too much, or that keeps its numbers in other files.

    Raises:
        StoreError: Naming the reason.
    """
    if dataset.external or dataset.is_virtual:
        raise StoreError(f"{where}: its numbers lie in other files, which are not read.")
    limits.check_array(where, dataset.shape or (), dataset.dtype, dataset.chunks)
    if dataset.chunks is not None:
        pipeline = dataset.id.get_create_plist()
        codes = {pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())}
        if codes - _FILTERS:
            raise StoreError(f"{where}: HDF5 filters {sorted(codes - _FILTERS)} are not accepted.")


def read_dataset(where: str, dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows of an array.

    Raises:
        StoreError: If a chunk unpacks to more than its array says.
        StoreCorruptError: If they cannot be unpacked.
    """
    try:
        if dataset.compression == "gzip":
            _check_chunks(where, dataset, start, stop)
        return np.asarray(dataset[start:stop])
    except (OSError, RuntimeError, ValueError, KeyError, zlib.error) as error:
        raise StoreCorruptError(f"{where}: it cannot be decoded ({error}).") from error


def _check_chunks(where: str, dataset: h5py.Dataset, start: int, stop: int) -> None:
    """Unpack each chunk as far as it may go: HDF5 itself unpacks all that is there."""
    limit = math.prod(dataset.chunks) * dataset.dtype.itemsize
    axes = [range(start // dataset.chunks[0] * dataset.chunks[0], stop, dataset.chunks[0])]
    axes += [range(0, n, c) for n, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    for place in itertools.product(*axes):
        if dataset.id.get_chunk_info_by_coord(place).size == 0:
            continue  # never written: fill values
        _, packed = dataset.id.read_direct_chunk(place)
        # A chunk may end with a checksum after the deflated stream.
        if len(zlib.decompressobj().decompress(packed, limit + 1)) > limit:
            raise StoreError(f"{where}: a chunk unpacks to more than {limit} bytes.")


def same_layout(
    path: Path, names: list[str], layouts: list[tuple[dict[str, Any], int]]
) -> tuple[dict[str, Any], list[int]]:
    """The arrays that all episodes have, and the length of each episode.

    Args:
        path: The file, for messages.
        names: Names of the episodes.
        layouts: Type and row shape of each array, and the length, of every episode.

    Raises:
        StoreError: If an episode has other arrays than the first.
    """
    first = layouts[0][0]
    for name, (found, _) in zip(names, layouts, strict=True):
        if found != first:
            differ = sorted(k for k in found.keys() | first if found.get(k) != first.get(k))
            raise StoreError(
                f"{path}: {name} has other arrays than {names[0]}: {differ}. Every episode of a "
                "store has the same arrays: split the file, or remove these."
            )
    return first, [length for _, length in layouts]
