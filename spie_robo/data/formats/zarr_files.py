"""Zarr from elsewhere, folder or zip: headers checked before use, chunks before unpacking."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

from spie_robo.data.formats import limits
from spie_robo.data.formats.zarr_chunks import (
    JPEG_XL,
    ZarrHeader,
    check_chunk,
    check_shard,
    is_numeric_3,
    read_zarr3_header,
    read_zarr_header,
)
from spie_robo.errors import MissingExtraError, StoreError

ROOT_3 = "zarr.json"
HEADER_NAMES = (".zarray", ".zattrs", ".zgroup", ".zmetadata", ROOT_3)

_DEPTH = 16
"""Groups inside groups that are followed."""


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
        self._sound: set[str] = set()

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
        header = None if key.endswith(HEADER_NAMES) else self._header_of(key)
        if data is None or header is None:
            return data
        if header.shard is None:
            check_chunk(f"{self._where}: {key}", header, data.to_bytes())
        elif key not in self._sound:  # zarr reads parts of it: all of them are looked at once
            whole = await self._store.get(key, prototype)
            check_shard(f"{self._where}: {key}", header, b"" if whole is None else whole.to_bytes())
            self._sound.add(key)
        return data

    def _header_of(self, key: str) -> ZarrHeader | None:
        """Return the header of the array to which a chunk belongs.

        Chunks are named ``img/0.0``, or with "/" between numbers ``img/0/0``.
        """
        parts = key.split("/")
        above = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        return next((self._headers[name] for name in above if name in self._headers), None)


@dataclass(frozen=True)
class ZarrFiles:
    """An opened zarr group.

    Attributes:
        root: The group.
        headers: Every array by its path.
        attributes: Attributes of the root group.
        left_out: Arrays of texts or objects by their path, which are never read, and why.
    """

    root: zarr.Group
    headers: Mapping[str, ZarrHeader]
    attributes: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)


def open_zarr(path: Path) -> ZarrFiles:
    """Open a zarr group of format 2 or 3, in a folder or a zip file, deflated or not.

    Raises:
        StoreError: If it is none, or asks for too much, for pickles, or for files elsewhere.
        MissingExtraError: If its chunks are JPEG XL and the package that reads it is absent.
    """
    documents = read_documents(path)
    zarr_format: Literal[2, 3] = 3 if ROOT_3 in documents else 2
    headers, texts = _headers(path, documents, zarr_format)
    limits.check_size(f"{path}: arrays", len(headers), limits.MAX_ARRAYS)
    if any(header.codec == JPEG_XL for header in headers.values()):
        _register_jpeg_xl(path)
    inner: Store = (
        LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, read_only=True)
    )
    store = CheckedStore(inner, path, headers)
    root = zarr.open_group(store, mode="r", zarr_format=zarr_format, use_consolidated=False)
    left_out = dict.fromkeys(sorted(texts), "a store holds numbers, not texts or objects")
    attributes = documents.get(".zattrs", {})
    if zarr_format == 3:
        attributes = documents[ROOT_3].get("attributes", {})
    return ZarrFiles(root, headers, attributes, left_out)


def _headers(
    path: Path, documents: Mapping[str, Mapping[str, Any]], zarr_format: int
) -> tuple[dict[str, ZarrHeader], set[str]]:
    """Return the header of every array of numbers, and the names of the others."""
    headers: dict[str, ZarrHeader] = {}
    others: set[str] = set()
    for name, document in documents.items():
        array, _, kind = name.rpartition("/")
        where = f"{path}: {name}"
        if zarr_format == 2 and kind == ".zarray":
            if limits.is_numeric(document.get("dtype")):
                headers[array] = read_zarr_header(where, document)
            else:
                others.add(array)
        elif zarr_format == 3 and kind == ROOT_3 and document.get("node_type") == "array":
            if is_numeric_3(document):
                headers[array] = read_zarr3_header(where, document)
            else:
                others.add(array)
    return headers, others


def read_documents(path: Path) -> dict[str, dict[str, Any]]:
    """Read every JSON header of a zarr store by its name; empty if there is none.

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
    """Yield names of the headers in a folder and its groups; chunks of an array are not walked.

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
        if not _is_array(folder):
            waiting += sorted(child for child in folder.iterdir() if child.is_dir())


def _is_array(folder: Path) -> bool:
    """Return whether a folder holds the chunks of an array."""
    if (folder / ".zarray").is_file():
        return True
    header = folder / ROOT_3
    if not header.is_file() or header.stat().st_size > limits.MAX_HEADER_BYTES:
        return False
    return b'"array"' in header.read_bytes()


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
