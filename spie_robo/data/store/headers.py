"""Check the headers of a store from elsewhere before anything is decoded.

A header can name a codec that runs code (numcodecs has one for pickles), or chunks of petabytes; a
compressed chunk can claim to be larger than its array says; a link can lead to any file. Only
arrays that :func:`spie_robo.data.store.layout.create_array` writes are read.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast, final

import numcodecs  # type: ignore[import-untyped]
import zarr
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from spie_robo.errors import StoreCorruptError

ZarrArray: TypeAlias = "zarr.Array[Any]"

MAX_CHUNK_BYTES = 64 * 2**20
"""Largest decoded chunk: a 4K frame in float32 fits. Zarr decodes about ten chunks at a time."""

MAX_CHUNKS_PER_SHARD = 4096
MAX_HEADER_BYTES = 64 * 2**20
MAX_FILE_BYTES = 512 * 2**20

_HEADERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_BLOSC_SIZE = slice(4, 8)
"""Place of the decoded size in the 16-byte header of a Blosc buffer."""

_BLOSC_PACKED = slice(12, 16)
"""Place of the buffer's own size, header included."""

_BLOSC_ZSTD = (2, 1, 0x90)
"""Versions of Blosc's and zstd's formats, and the flags "zstd, not split"."""

_BLOSC_SHUFFLES = {0: 0, 1: 0x01, 2: 0x04}
_BLOSC_COPIED = 0x02
"""Flag of data that compression did not make smaller."""


@final
class InsideStore(WrapperStore[LocalStore]):
    """A read-only zarr store in a local folder that reads nothing outside it.

    Raises:
        StoreCorruptError: If a link leads to a file outside, or a file is larger than any in a
            store.
    """

    def __init__(self, store: LocalStore, seen: set[str] | None = None) -> None:
        """Wrap ``store``; ``seen`` holds folders that are known to be inside it."""
        super().__init__(store)
        self._root = str(store.root)
        self._seen: set[str] = set() if seen is None else seen

    def _with_store(self, store: LocalStore) -> InsideStore:
        return InsideStore(store, self._seen)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of one file, or None if there is none."""
        if not is_readable(self._root, key, self._seen):
            return None
        return await self._store.get(key, prototype, byte_range)


def is_readable(root: str, key: str, seen: set[str]) -> bool:
    """Return whether a store has a file of that key, and refuse a link or size that is wrong.

    Args:
        root: Folder of the store.
        key: Path of the file below it.
        seen: Folders that are known to be inside the store; this function adds to them.

    Raises:
        StoreCorruptError: If a link leads out of the store, or the file is larger than any in a
            store.
    """
    # Strings and one system call keep this fast: it runs for every single frame.
    path = f"{root}/{key}"
    folder, _, name = path.rpartition("/")
    if folder not in seen:
        require_inside(Path(root), Path(folder))
        seen.add(folder)
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            require_inside(Path(root), Path(path))
            status = os.stat(path)
    except OSError:
        return False
    limit = MAX_HEADER_BYTES if name in _HEADERS else MAX_FILE_BYTES
    if status.st_size > limit:
        raise StoreCorruptError(
            f"{path}: expected at most {limit} bytes, found {status.st_size}. No store of "
            "spie_robo holds such a file."
        )
    return True


def read_header(root: Path, name: str) -> object:
    """Read the JSON of a header of a store.

    Args:
        root: Folder of the store.
        name: Path of the header below it.

    Returns:
        The parsed JSON; None if the file is missing, too large, outside the store, or not JSON.
    """
    try:
        if not is_readable(str(root), name, set()):
            return None
        return json.loads((root / name).read_bytes())
    except (StoreCorruptError, OSError, ValueError, RecursionError):
        return None


def require_inside(root: Path, path: Path) -> None:
    """Refuse a path that leads out of a store by a symbolic link.

    Raises:
        StoreCorruptError: If it leads out.
    """
    real, inside = os.path.realpath(path), os.path.realpath(root)
    if real != inside and not real.startswith(inside + os.sep):
        raise StoreCorruptError(
            f"{path} is a link out of the store, to {real}. Nothing outside a store is touched: "
            "put the files themselves there."
        )


def require_ours(array: ZarrArray, where: Path) -> ZarrArray:
    """Refuse an array whose header this package would not write.

    Args:
        array: The opened array, which was not read yet.
        where: Folder of the array, for the message.

    Returns:
        The same array with codecs that refuse chunks which claim to unpack to more than they may.

    Raises:
        StoreCorruptError: If codec, type or size is another.
    """
    _require_sizes(array, where)
    metadata, limit = array.metadata, _chunk_bytes(array)
    if metadata.zarr_format == 2:
        compressor = cast("Any", metadata.compressor)
        name = getattr(compressor, "codec_id", None)
        if metadata.filters or name != "blosc":
            names = [getattr(f, "codec_id", f) for f in metadata.filters or ()]
            raise _refused(where, f"compressor {name!r} and filters {names}")
        itemsize = int(array.dtype.itemsize)
        strict = _CheckedBloscV2.like(compressor, limit, itemsize)
        checked: Any = replace(metadata, compressor=strict)
    else:
        checked = replace(metadata, codecs=(_checked_sharding(metadata.codecs, where),))
    inner = array.async_array
    return zarr.Array(AsyncArray(checked, inner.store_path, inner.config))


def _checked_sharding(codecs: tuple[Any, ...], where: Path) -> ShardingCodec:
    kinds = [type(codec) for codec in codecs]
    if kinds != [ShardingCodec]:
        raise _refused(where, f"codecs {[kind.__name__ for kind in kinds]}")
    sharding = cast("ShardingCodec", codecs[0])
    chunk, index = sharding.codecs, sharding.index_codecs
    kinds = [type(codec) for codec in (*chunk, *index)]
    if kinds != [BytesCodec, BloscCodec, Crc32cCodec, BytesCodec, Crc32cCodec]:
        raise _refused(where, f"codecs {[kind.__name__ for kind in kinds]}")
    blosc = cast("BloscCodec", chunk[1])
    strict = _CheckedBlosc(
        typesize=blosc.typesize,
        cname=blosc.cname,
        clevel=blosc.clevel,
        shuffle=blosc.shuffle,
        blocksize=blosc.blocksize,
    )
    return ShardingCodec(
        chunk_shape=sharding.chunk_shape,
        codecs=(chunk[0], strict, chunk[2]),
        index_codecs=index,
        index_location=sharding.index_location,
    )


def _require_sizes(array: ZarrArray, where: Path) -> None:
    if array.dtype.kind not in "biuf":
        raise _refused(where, f"dtype {array.dtype}")
    chunks, shards = array.chunks, array.shards or array.chunks
    if not array.shape or chunks[1:] != array.shape[1:] or min(chunks) < 1:
        raise _refused(where, f"shape {array.shape} in chunks of {chunks}")
    if _chunk_bytes(array) > MAX_CHUNK_BYTES:
        raise _refused(where, f"chunks of {_chunk_bytes(array)} bytes (limit {MAX_CHUNK_BYTES})")
    if math.prod(shards) > MAX_CHUNKS_PER_SHARD * math.prod(chunks):
        raise _refused(where, f"shards of {shards} for chunks of {chunks}")


def _chunk_bytes(array: ZarrArray) -> int:
    return math.prod(array.chunks) * int(array.dtype.itemsize)


def _refused(where: Path, what: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{where}: it asks for {what}, which no store of spie_robo does: its header is damaged, or "
        "the store is not to be trusted. Nothing of it was decoded."
    )


def _require_size(data: Any, limit: int) -> None:
    claimed = int.from_bytes(bytes(memoryview(data).cast("B")[_BLOSC_SIZE]), "little")
    if claimed > limit:
        raise ValueError(f"it claims to unpack to {claimed} bytes, its chunk has {limit}")


class _CheckedBlosc(BloscCodec):
    """Zarr 3's Blosc codec with a limit on the decoded size, which the data itself claims."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        limit = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        _require_size(chunk_bytes.as_numpy_array(), limit)
        return super()._decode_sync(chunk_bytes, chunk_spec)


class _CheckedBloscV2(numcodecs.Blosc):  # type: ignore[misc]
    """Zarr 2's Blosc codec with a limit on the decoded size and a check of its header.

    Zarr 2 has no checksum of a chunk's bytes, and Blosc ignores much of the header; a header that
    differs from the expected one was changed after it was written.
    """

    _limit = 0  # private: numcodecs writes public attributes into headers
    _itemsize = 1

    @classmethod
    def like(cls, other: Any, limit: int, itemsize: int) -> _CheckedBloscV2:
        config = {key: value for key, value in other.get_config().items() if key != "id"}
        codec: _CheckedBloscV2 = cls(**config)
        codec._limit, codec._itemsize = limit, itemsize
        return codec

    def decode(self, buf: Any, out: Any = None) -> Any:
        _require_size(buf, self._limit)
        self._require_header(bytes(memoryview(buf).cast("B")[:16]), memoryview(buf).nbytes)
        return super().decode(buf, out)

    def _require_header(self, header: bytes, size: int) -> None:
        packed = int.from_bytes(header[_BLOSC_PACKED], "little")
        if packed != size:
            raise ValueError(f"it claims to have {packed} bytes, it has {size}")
        if self.cname != "zstd" or self.shuffle not in _BLOSC_SHUFFLES:
            return
        version, zstd_version, flags = _BLOSC_ZSTD
        flags |= _BLOSC_SHUFFLES[self.shuffle]
        expected = (version, zstd_version, flags, self._itemsize)
        found = (header[0], header[1], header[2] & ~_BLOSC_COPIED, header[3])
        if found != expected:
            raise ValueError(f"its header begins with {found}, not with {expected}")
