"""HDF5 from elsewhere: opened without following links out of it, headers checked before use."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.errors import StoreCorruptError, StoreError
from spie_robo.files.staged import require_room

if TYPE_CHECKING:
    import h5py

_FILTERS = {1, 2, 3, 32000}
"""deflate, shuffle, fletcher32, lzf: those that HDF5 and h5py bring along; no plugin is loaded."""

ROOM_TO_CLOSE = 2 * 2**20
"""Bytes that must stay free beside a block: HDF5 writes its own indices at the end."""

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


@contextmanager
def watched_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[int], None]]]:
    """Yield a new file, and a function to call with the number of bytes that come next.

    HDF5 ends the process, or leaves a file that it cannot close, when the disk is full. So room is
    looked for before each block, while there is still enough to close the file.

    Raises:
        MissingExtraError: If h5py is not installed.
        OSError: When the disk has no room for the next block; the file is closed and worth nothing.
    """
    library = need("h5py")
    require_room(path, ROOM_TO_CLOSE)
    with library.File(path, "w", libver="latest", track_order=True) as file:

        def watch(size: int) -> None:
            require_room(path, size + ROOM_TO_CLOSE)
            file.flush()

        yield file, watch


def demos_in(path: Path) -> tuple[str, ...]:
    """Return names of the groups ``data/demo_*`` of a robomimic file; empty for another file."""
    with open_hdf5(path) as file:
        data = child_group(file, "data")
        return () if data is None else tuple(n for n in data if str(n).startswith("demo"))


def child_group(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group inside a group; None if there is none, or only a link to another file."""
    library = need("h5py")
    if not isinstance(group.get(name, getlink=True), library.HardLink):
        return None
    found = group.get(name)
    return found if isinstance(found, library.Group) else None


def datasets_below(group: h5py.Group, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every array below a group with its path from there.

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
    """Read rows of an array.

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


def read_texts(where: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    """Read the texts of an array of texts, at most one for each of its rows.

    Raises:
        StoreError: If they are too long.
        StoreCorruptError: If they cannot be read.
    """
    limits.check_size(where, dataset.id.get_storage_size(), limits.MAX_HEADER_BYTES)
    limits.check_size(f"{where}: texts", dataset.size or 0, limits.MAX_STEPS)
    if dataset.dtype.kind == "O" and need("h5py").check_string_dtype(dataset.dtype) is None:
        return ()  # sequences and references, which are no texts
    try:
        values = np.atleast_1d(dataset[()]).reshape(-1).tolist()
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise StoreCorruptError(f"{where}: it cannot be decoded ({error}).") from error
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


Layout = tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], int]
"""Type and row shape of each array of an episode, and its number of steps."""


def common_layout(
    path: Path, names: Sequence[str], layouts: Sequence[Layout], needed: Collection[str]
) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], list[int], tuple[str, ...]]:
    """Return the arrays that all episodes have in one type and shape, and each episode's length.

    Args:
        path: The file, for messages.
        names: Names of the episodes.
        layouts: Layout of every episode.
        needed: Arrays that an episode must not lack if another has them, beside images.

    Returns:
        The arrays, the lengths, and a note for each array that only some episodes have.

    Raises:
        StoreError: If episodes differ in a needed array or in an image, or share no array.
    """
    first = layouts[0][0]
    shared, notes = {}, []
    for array in dict.fromkeys(name for found, _ in layouts for name in found):
        others = [n for n, (found, _) in zip(names, layouts, strict=True) if array not in found]
        differ = [
            n
            for n, (found, _) in zip(names, layouts, strict=True)
            if array in found and found[array] != first.get(array, found[array])
        ]
        if not others and not differ:
            shared[array] = first[array]
            continue
        what = f"{array} is not in {others[0]}" if others else f"{array} of {differ[0]} is another"
        if array in needed or any(_is_image(found.get(array)) for found, _ in layouts):
            raise StoreError(
                f"{path}: {what}, and {array} is needed. Every episode of a store has the same "
                "arrays: split the file, or remove the episodes that differ."
            )
        count = len(others) or len(differ)
        notes.append(f"{array} was not kept: {count} of {len(names)} episodes differ ({what}).")
    if not shared:
        raise StoreError(f"{path}: its episodes have no array in common.")
    return shared, [length for _, length in layouts], tuple(notes)


def _is_image(row: tuple[np.dtype[Any], tuple[int, ...]] | None) -> bool:
    return row is not None and row[0] == np.uint8 and len(row[1]) == 3
