"""Zarr v2 from elsewhere, folder or zip: headers checked before use, chunks before unpacking."""

from __future__ import annotations

import bz2
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numcodecs.blosc  # type: ignore[import-untyped]
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

from spie_robo.data.formats import limits
from spie_robo.errors import MissingExtraError, StoreCorruptError, StoreError

HEADER_NAMES = (".zarray", ".zattrs", ".zgroup", ".zmetadata")

_DEPTH = 16
"""Groups inside groups that are followed."""

_JPEG_XL = "imagecodecs_jpegxl"
_BLOSC_HEADER = 16


@dataclass(frozen=True)
class ZarrHeader:
    """The ``.zarray`` document of one array, checked.

    Attributes:
        shape: Of the whole array.
        chunks: Of one chunk.
        dtype: Numpy's name.
        codec: Id of the compressor; empty if there is none.
        chunk_bytes: Decoded size of one chunk.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    codec: str
    chunk_bytes: int


@final
class CheckedStore(WrapperStore[Store]):
    """A read-only zarr store that refuses files outside itself and chunks that unpack to more.

    Raises:
        StoreError: When such a file is read.
    """

    def __init__(self, store: Store, where: Path, headers: Mapping[str, ZarrHeader]) -> None:
        """Wrap ``store``, whose arrays are ``headers``."""
        super().__init__(store)
        self._where = where
        self._headers = headers

    def _with_store(self, store: Store) -> CheckedStore:
        return CheckedStore(store, self._where, self._headers)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """One file of the store."""
        if self._where.is_dir():
            path = limits.check_inside(self._where, self._where / key)
            if path.is_file():
                limits.check_size(str(path), path.stat().st_size)
        data = await self._store.get(key, prototype, byte_range)
        header = self._header_of(key)
        if data is not None and header is not None and not key.endswith(HEADER_NAMES):
            check_chunk(f"{self._where}: {key}", header, data.to_bytes())
        return data

    def _header_of(self, key: str) -> ZarrHeader | None:
        """Of the array of a chunk: ``img/0.0``, or with "/" between numbers ``img/0/0``."""
        parts = key.split("/")
        above = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        return next((self._headers[name] for name in above if name in self._headers), None)


@dataclass(frozen=True)
class ZarrFiles:
    """An opened zarr v2 group.

    Attributes:
        root: The group.
        headers: Every array by its path.
        attributes: Of the root group.
        left_out: Arrays of texts or objects by their path, which are never read, and why.
    """

    root: zarr.Group
    headers: Mapping[str, ZarrHeader]
    attributes: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)


def open_zarr(path: Path) -> ZarrFiles:
    """Open a zarr v2 group in a folder or an uncompressed or deflated zip file.

    Raises:
        StoreError: If it is none, or asks for too much, for pickles, or for files elsewhere.
        MissingExtraError: If its chunks are JPEG XL and the package that reads it is absent.
    """
    documents = read_documents(path)
    arrays = {
        name.removesuffix("/.zarray"): document
        for name, document in documents.items()
        if name.endswith("/.zarray")
    }
    texts = {name for name, about in arrays.items() if not limits.is_numeric(about.get("dtype"))}
    headers = {
        name: read_zarr_header(f"{path}: {name}/.zarray", document)
        for name, document in arrays.items()
        if name not in texts
    }
    limits.check_size(f"{path}: arrays", len(headers), limits.MAX_ARRAYS)
    if any(header.codec == _JPEG_XL for header in headers.values()):
        _register_jpeg_xl(path)
    inner: Store = (
        LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, read_only=True)
    )
    store = CheckedStore(inner, path, headers)
    root = zarr.open_group(store, mode="r", zarr_format=2, use_consolidated=False)
    left_out = dict.fromkeys(sorted(texts), "a store holds numbers, not texts or objects")
    return ZarrFiles(root, headers, documents.get(".zattrs", {}), left_out)


def read_documents(path: Path) -> dict[str, dict[str, Any]]:
    """Every JSON header of a zarr v2 store by its name; empty if there is none.

    Raises:
        StoreError: If one is too large, is not JSON, or lies outside.
    """
    if path.is_dir():
        names = list(_header_files(path))
        texts = {name: _read_small(path, name) for name in names}
    else:
        sizes = limits.check_zip(path)
        with zipfile.ZipFile(path) as archive:
            texts = {}
            for name in sorted(n for n in sizes if n.rpartition("/")[2] in HEADER_NAMES):
                limits.check_size(f"{path}: {name}", sizes[name], limits.MAX_HEADER_BYTES)
                texts[name] = archive.read(name)
    return {name: _parse(f"{path}: {name}", text) for name, text in texts.items()}


def _header_files(root: Path) -> Iterator[str]:
    """Names of the headers in a folder and in its groups; the chunks of an array are not walked.

    Raises:
        StoreError: If groups are nested too deep, or a link leads out.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        limits.check_inside(root, folder)
        place = folder.relative_to(root)
        if len(place.parts) > _DEPTH:
            raise StoreError(f"{root}: {place}: groups are nested deeper than {_DEPTH}.")
        for header in HEADER_NAMES:
            if (folder / header).is_file():
                yield (place / header).as_posix()
        if not (folder / ".zarray").is_file():
            waiting += sorted(child for child in folder.iterdir() if child.is_dir())


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
    """The size that a zstd frame claims (RFC 8878, 3.1.1.1); a frame that hides it is refused."""
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
    _JPEG_XL: lambda data, limit: limit,  # decodes to the array that zarr allocates, or fails
}
"""Compressors that are accepted, and the size that a chunk of each unpacks to."""


def _read_small(root: Path, name: str) -> bytes:
    path = limits.check_inside(root, root / name)
    limits.check_size(str(path), path.stat().st_size, limits.MAX_HEADER_BYTES)
    return path.read_bytes()


def _parse(where: str, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where}: it is not JSON ({error}).") from error
    if not isinstance(document, dict):
        raise StoreError(f"{where}: expected a JSON object, got {type(document).__name__}.")
    return document


def _register_jpeg_xl(path: Path) -> None:
    try:
        from imagecodecs.numcodecs import register_codecs
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: its images are JPEG XL, as UMI writes them. Install the package that reads "
            "them: pip install imagecodecs"
        ) from error
    register_codecs(verbose=False)
