"""Headers and chunks of zarr arrays from elsewhere, formats 2 and 3: checked before unpacking."""

from __future__ import annotations

import bz2
import itertools
import lzma
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numcodecs.blosc  # type: ignore[import-untyped]
import numpy as np

from spie_robo.data.formats import limits
from spie_robo.errors import StoreCorruptError, StoreError

JPEG_XL = "imagecodecs_jpegxl"
_BLOSC_HEADER = 16
_CRC_BYTES = 4
_EMPTY = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""

_NUMBERS_3 = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip
"""Data types of zarr 3 that numpy has, beside those that are not read."""

_COMPRESSORS_3 = ("blosc", "zstd", "gzip")


@dataclass(frozen=True)
class Shard:
    """A file of zarr 3 that holds several chunks and an index of them.

    Attributes:
        chunks: Number of chunks in it.
        at_end: Whether the index is at its end, else at its start.
        index_checksum: Whether four bytes of CRC-32C end the index.
        file_bytes: Decoded size of all its chunks.
    """

    chunks: int
    at_end: bool
    index_checksum: bool
    file_bytes: int


@dataclass(frozen=True)
class ZarrHeader:
    """The checked header of one array.

    Attributes:
        shape: Shape of the whole array.
        chunks: Shape of one chunk.
        dtype: Numpy's name.
        codec: Id of the compressor; empty if there is none.
        chunk_bytes: Decoded size of one chunk.
        checksum: Whether four bytes of CRC-32C end each chunk, in zarr 3.
        shard: How a file holds several chunks, in zarr 3; None if it holds one.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    codec: str
    chunk_bytes: int
    checksum: bool = False
    shard: Shard | None = None


def is_numeric_3(document: Mapping[str, Any]) -> bool:
    """Return whether an array of zarr 3 holds numbers or booleans."""
    return document.get("data_type") in _NUMBERS_3


def read_zarr3_header(where: str, document: Mapping[str, Any]) -> ZarrHeader:
    """Check one ``zarr.json`` of an array.

    Raises:
        StoreError: If it is damaged, asks for too much, or names a codec that is not allowed.
    """
    try:
        shape = tuple(int(n) for n in document["shape"])
        grid = document["chunk_grid"]
        outer = tuple(int(n) for n in grid["configuration"]["chunk_shape"])
        codecs, dtype, regular = document["codecs"], document["data_type"], grid["name"]
        sharded = len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed"
        about = codecs[0]["configuration"] if sharded else {}
        inner = tuple(int(n) for n in about["chunk_shape"]) if sharded else outer
        codec, checksum = _pipeline(where, about["codecs"] if sharded else codecs)
        index = [c["name"] for c in about["index_codecs"]] if sharded else []
        at_end = about.get("index_location", "end") == "end"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreError(f"{where}: the header of the array is damaged ({error!r}).") from error
    if regular != "regular":
        raise StoreError(f"{where}: chunks of the grid {regular!r} are not read, only regular.")
    if index not in ([], ["bytes"], ["bytes", "crc32c"]):
        raise StoreError(f"{where}: an index of shards with codecs {index} is not accepted.")
    numbers = limits.check_array(where, shape or (0,), dtype, outer or (1,))
    size = math.prod(inner) * numbers.itemsize
    if not sharded:
        return ZarrHeader(shape, outer, numbers.name, codec, size, checksum)
    if len(inner) != len(outer) or any(n < 1 or o % n for n, o in zip(inner, outer, strict=True)):
        raise StoreError(f"{where}: chunks of {inner} do not fill shards of {outer}.")
    count = math.prod(o // n for o, n in zip(outer, inner, strict=True))
    shard = Shard(count, at_end, "crc32c" in index, count * size)
    return ZarrHeader(shape, inner, numbers.name, codec, size, checksum, shard)


def _pipeline(where: str, codecs: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return the compressor of a chunk of zarr 3, empty if none, and whether it has a checksum.

    Raises:
        StoreError: If there are other codecs.
    """
    names = [str(codec["name"]) for codec in codecs]
    rest = names[1:] if names[:1] == ["bytes"] else ["?"]
    checksum = rest[-1:] == ["crc32c"]
    rest = rest[:-1] if checksum else rest
    if len(rest) > 1 or (rest and rest[0] not in _COMPRESSORS_3):
        allowed = ", ".join(_COMPRESSORS_3)
        raise StoreError(
            f"{where}: codecs {names} are not accepted. Accepted: bytes, then one of {allowed}, "
            "then crc32c, alone or in shards."
        )
    return (rest[0] if rest else ""), checksum


def check_shard(where: str, header: ZarrHeader, data: bytes) -> None:
    """Refuse a shard with a chunk that lies outside it or unpacks to other than it should.

    Raises:
        StoreError: If a chunk unpacks to more.
        StoreCorruptError: If the index leads outside, or a chunk cannot be unpacked.
    """
    assert header.shard is not None
    entries = header.shard.chunks * 2
    size = entries * 8 + (_CRC_BYTES if header.shard.index_checksum else 0)
    if len(data) < size:
        raise StoreCorruptError(f"{where}: the shard is cut short, its index is missing.")
    start = len(data) - size if header.shard.at_end else 0
    index = np.frombuffer(data, "<u8", entries, start).reshape(-1, 2).tolist()
    for number, (offset, length) in zip(itertools.count(), index, strict=False):
        if (offset, length) == (_EMPTY, _EMPTY):
            continue  # never written: fill values
        if offset + length > len(data):
            raise StoreCorruptError(f"{where}: chunk {number} of the shard lies outside it.")
        check_chunk(f"{where}: chunk {number}", header, data[offset : offset + length])


def read_zarr_header(where: str, document: Mapping[str, Any]) -> ZarrHeader:
    """Check one ``.zarray`` document.

    Raises:
        StoreError: If it is damaged, asks for too much, or names a codec that is not allowed.
    """
    try:
        shape = tuple(int(n) for n in document["shape"])
        chunks = tuple(int(n) for n in document["chunks"])
        compressor, filters = document["compressor"], document["filters"]
        codec = "" if compressor is None else str(compressor["id"])
        dtype = document["dtype"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{where}: the header of the array is damaged ({error!r}).") from error
    if filters:
        names = [f.get("id") if isinstance(f, dict) else f for f in filters]
        raise StoreError(f"{where}: filters {names} are not accepted; pickle would run code.")
    if codec not in ALLOWED_CODECS:
        allowed = ", ".join(sorted(name for name in ALLOWED_CODECS if name))
        raise StoreError(f"{where}: codec {codec!r} is not accepted. Accepted: {allowed}.")
    numbers = limits.check_array(where, shape or (0,), dtype, chunks or (1,))
    size = numbers.itemsize
    for n in chunks:
        size *= n
    return ZarrHeader(shape, chunks, numbers.name, codec, size)


def check_chunk(where: str, header: ZarrHeader, data: bytes) -> None:
    """Refuse a chunk that does not unpack to just what the header of its array says.

    Raises:
        StoreError: If it unpacks to more.
        StoreCorruptError: If it cannot be unpacked, or to less.
    """
    expected = header.chunk_bytes
    if header.checksum:
        data = data[:-_CRC_BYTES]
    try:
        size = ALLOWED_CODECS[header.codec](data, expected)
    except (ValueError, RuntimeError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise StoreCorruptError(f"{where}: the chunk is damaged ({error}).") from error
    if size > expected:
        raise StoreError(
            f"{where}: the chunk unpacks to more than the {expected} bytes that its array says."
        )
    if size < expected:
        raise StoreCorruptError(f"{where}: the chunk is cut short: {size} of {expected} bytes.")


def _blosc(data: bytes, limit: int) -> int:
    unpacked, packed, _ = numcodecs.blosc._cbuffer_sizes(data)
    if len(data) < _BLOSC_HEADER or packed != len(data):
        raise ValueError(f"{len(data)} of {packed} bytes are there")
    return int(unpacked)


def _lz4(data: bytes, limit: int) -> int:
    return int.from_bytes(data[:4], "little")


def _zstd(data: bytes, limit: int) -> int:
    """Return the size that a zstd frame claims (RFC 8878, 3.1.1.1); refuse one without."""
    if data[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is no zstd frame")
    descriptor = data[4]
    flag, single = descriptor >> 6, descriptor >> 5 & 1
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[flag]
    if width == 0:
        raise ValueError("it does not say its size")
    return int.from_bytes(data[start : start + width], "little") + (256 if flag == 1 else 0)


def _stream(make: Callable[[], Any]) -> Callable[[bytes, int], int]:
    """Unpack at most one byte more than is expected."""
    return lambda data, limit: len(make().decompress(data, limit + 1))


ALLOWED_CODECS: dict[str, Callable[[bytes, int], int]] = {
    "": lambda data, limit: len(data),
    "blosc": _blosc,
    "lz4": _lz4,
    "zstd": _zstd,
    "zlib": _stream(zlib.decompressobj),
    "gzip": _stream(lambda: zlib.decompressobj(31)),
    "bz2": _stream(bz2.BZ2Decompressor),
    "lzma": _stream(lzma.LZMADecompressor),
    JPEG_XL: lambda data, limit: limit,  # decodes to the array that zarr allocates, or fails
}
"""Compressors that are accepted, and the size that a chunk of each unpacks to."""
