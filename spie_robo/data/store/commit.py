"""Read and write the commit record: the small document that says which data are valid.

It is an attribute of the root group, so one atomic rename replaces it. Readers ignore data that it
does not cover, and the next writer removes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from spie_robo.data.store.asserts import require_asserts
from spie_robo.data.store.checksums import crc32
from spie_robo.data.store.headers import InsideStore
from spie_robo.data.store.layout import RowFormat, ZarrFormat
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreCorruptError, StoreError

SCHEMA = "spie_robo.episodes"
SCHEMA_VERSION = 1

_OTHERS = "Check the path; `spie-robo convert IN OUT` makes stores of other formats."


@dataclass(frozen=True)
class ArrayCommit:
    """The committed part of one array of ``data/``.

    Attributes:
        row: Type and shape of one row.
        chunk_rows: Rows in a chunk (the inner chunk of a shard).
        tail_crc32: CRC-32 of the committed rows of the chunk that is not full yet.
    """

    row: RowFormat
    chunk_rows: int
    tail_crc32: int = 0


@dataclass(frozen=True)
class Commit:
    """The committed part of a store.

    Attributes:
        episodes: Number of episodes.
        steps: Number of rows of every array of ``data/``.
        complete: False while a conversion is running.
        arrays: Every array of ``data/`` by key; empty before the first episode.
        checksums: Number of rows of ``meta/chunk_crc32``.
        meta_crc32: CRC-32 of the committed rows of each array of ``meta/``.
        headers: CRC-32 of every header by folder
            (:mod:`spie_robo.data.store.checksums`); empty before the first episode and in
            stores of earlier releases.
    """

    episodes: int = 0
    steps: int = 0
    complete: bool = True
    arrays: Mapping[str, ArrayCommit] = field(default_factory=dict)
    checksums: int = 0
    meta_crc32: Mapping[str, int] = field(
        default_factory=lambda: {"episode_ends": 0, "seeds": 0, "chunk_crc32": 0}
    )
    headers: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        record = {
            "episodes": self.episodes,
            "steps": self.steps,
            "complete": self.complete,
            "arrays": {
                key: {
                    "dtype": array.row.dtype,
                    "shape": list(array.row.shape),
                    "chunk_rows": array.chunk_rows,
                    "tail_crc32": array.tail_crc32,
                }
                for key, array in self.arrays.items()
            },
            "checksums": self.checksums,
            "meta_crc32": dict(self.meta_crc32),
        }
        # Without headers, record and fingerprint equal those of earlier releases.
        return {**record, "headers": dict(self.headers)} if self.headers else record

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Commit:
        """Read a record from the values that :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: If the values have another form.
        """
        arrays = {
            key: ArrayCommit(
                RowFormat(str(a["dtype"]), tuple(int(n) for n in a["shape"])),
                int(a["chunk_rows"]),
                int(a["tail_crc32"]),
            )
            for key, a in record["arrays"].items()
        }
        return Commit(
            episodes=int(record["episodes"]),
            steps=int(record["steps"]),
            complete=bool(record["complete"]),
            arrays=arrays,
            checksums=int(record["checksums"]),
            meta_crc32={key: int(value) for key, value in record["meta_crc32"].items()},
            headers={name: int(value) for name, value in record.get("headers", {}).items()},
        )

    def fingerprint(self, metadata: StoreMetadata) -> str:
        """Return SHA-256 of the record and the metadata: equal stores have equal fingerprints."""
        return hashlib.sha256(_canonical(self.to_json(), metadata.to_json())).hexdigest()


def attributes_of(commit: Commit, metadata: StoreMetadata) -> dict[str, Any]:
    """Return the root attributes that hold a commit and its checksum."""
    record, about = commit.to_json(), metadata.to_json()
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "metadata": about,
        "commit": {**record, "crc32": crc32(_canonical(record, about))},
    }


def read_commit(path: Path) -> tuple[Commit, StoreMetadata, ZarrFormat]:
    """Read the commit record of the store at ``path``.

    Raises:
        StoreError: If there is no store there, or one of another version.
        StoreCorruptError: If the record is damaged.
    """
    attributes, zarr_format = _root_attributes(path)
    if attributes.get("schema") != SCHEMA or "commit" not in attributes:
        raise StoreError(
            f"{path}: expected an episode store of spie_robo, found a zarr group without its "
            f"commit record. {_OTHERS}"
        )
    version = attributes.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version!r}. Use the "
            "spie_robo release that wrote it, or upgrade."
        )
    try:
        metadata = StoreMetadata.from_json(attributes["metadata"])
        commit = Commit.from_json(attributes["commit"])
        record = dict(attributes["commit"])
        intact = record.pop("crc32") == crc32(_canonical(record, attributes["metadata"]))
    except (KeyError, TypeError, ValueError, AttributeError, StoreError) as error:
        raise _damaged(path) from error
    if not intact:
        raise _damaged(path)
    return commit, metadata, zarr_format


def _damaged(path: Path) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path}: the commit record in the root attributes is damaged. Restore the store from a "
        "copy, or record it again."
    )


def _canonical(record: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    return json.dumps([record, about], sort_keys=True, separators=(",", ":")).encode()


def _root_attributes(path: Path) -> tuple[dict[str, Any], ZarrFormat]:
    try:
        return _read_root(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its "
            "permissions."
        ) from error


def _read_root(path: Path) -> tuple[dict[str, Any], ZarrFormat]:
    require_asserts()
    if not path.exists():
        raise StoreError(f"{path}: expected an episode store, found nothing. Check the path.")
    if not path.is_dir():
        raise StoreError(
            f"{path}: expected the folder of an episode store, found a file. {_OTHERS}"
        )
    if not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        raise StoreError(
            f"{path}: expected an episode store, found a folder without zarr.json or .zgroup. "
            f"{_OTHERS}"
        )
    try:
        store = InsideStore(LocalStore(path, read_only=True))
        root = zarr.open_group(store, mode="r", use_consolidated=False)
        return dict(root.attrs), 2 if root.metadata.zarr_format == 2 else 3
    except PermissionError:
        raise
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise StoreCorruptError(
            f"{path}: its zarr group cannot be read: {error}. Restore the store from a copy."
        ) from error
