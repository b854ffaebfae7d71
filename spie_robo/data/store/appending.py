"""Write rows beyond the commit, then the commit record.

:class:`spie_robo.data.store.writer.EpisodeWriter` decides what an episode may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from spie_robo.data.store.checksums import crc32, extend_checksums, header_checksums
from spie_robo.data.store.commit import ArrayCommit, Commit, attributes_of, read_commit
from spie_robo.data.store.durable import DurableStore, at_once, remove_partial_files
from spie_robo.data.store.headers import require_ours
from spie_robo.data.store.layout import ZarrArray, create_array, open_array
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.reading import read_meta
from spie_robo.errors import StoreCorruptError, StoreError
from spie_robo.files.atomic import write_failure

_MOST_UNCOMMITTED = 2**24
"""Most rows of one episode: without it zarr looks for every chunk that a header claims."""


@dataclass
class UncommittedEpisode:
    """An episode that was begun and is not committed yet.

    Attributes:
        seed: Seed of the episode, -1 if it has none.
        arrays: Every array with the checksum of its last chunk, uncommitted rows included.
        steps: Rows on disk, committed or not.
        full_chunks: (index of the key, chunk, checksum) of each chunk that this episode filled.
    """

    seed: int
    arrays: dict[str, ArrayCommit]
    steps: int
    full_chunks: list[tuple[int, int, int]] = field(default_factory=list)


@final
class StoreOnDisk:
    """A store that is open for writing, cut to exactly what its commit record covers.

    The constructor removes everything beyond the commit. After a failed write make a new one,
    because this one no longer knows the state of the disk.

    Raises:
        StoreError: If there is no store at the path, or the disk fails.
        StoreCorruptError: If committed arrays are missing or too short.
    """

    def __init__(self, path: Path) -> None:
        """Open the store at ``path``; the caller holds its lock."""
        self.path = path
        remove_partial_files(path)
        self.commit, self.metadata, self.zarr_format = read_commit(path)
        self._durable = DurableStore(LocalStore(path))
        self._opened: dict[str, ZarrArray] = {}  # parsing a header takes milliseconds
        try:
            # A copy of all headers that zarr.consolidate_metadata made is stale from here on. In
            # zarr 3 it is part of the root's header, which the next commit replaces.
            (path / ".zmetadata").unlink(missing_ok=True)
            self._root = zarr.open_group(
                self._durable, mode="r+", zarr_format=self.zarr_format, use_consolidated=False
            )
            self._data = self._group("data")
            self._meta = self._group("meta")
            for name in self.commit.meta_crc32:
                read_meta(self._root, path, name, self.commit)
            self._truncate()
        except OSError as error:
            raise write_failure(path, error) from error
        except (KeyError, TypeError, ValueError) as error:  # zarr's metadata is missing or damaged
            raise StoreCorruptError(
                f"{path}: an array or group is missing or its metadata is damaged ({error}). Run "
                "`spie-robo verify` to see what; restore the store from a copy."
            ) from error

    def begin_episode(self, seed: int) -> UncommittedEpisode:
        """Start an episode after the committed ones."""
        return UncommittedEpisode(seed, dict(self.commit.arrays), self.commit.steps)

    def write_rows(self, episode: UncommittedEpisode, rows: Mapping[str, NDArray[Any]]) -> None:
        """Write rows beyond the commit and update the checksums.

        Args:
            episode: The episode that the rows belong to.
            rows: One array (steps, ...) for each of ``episode.arrays``.
        """
        self._require_there()
        start, keys = episode.steps, sorted(episode.arrays)
        for key in keys:
            if key not in self._opened:
                if key not in self._data:
                    create_array(self._data, key, episode.arrays[key].row, self.zarr_format)
                array = require_ours(open_array(self._data, key), self.path / "data" / key)
                self._opened[key] = array
        at_once(partial(self._write_array, key, start, rows[key]) for key in keys)
        for number, key in enumerate(keys):
            before, new = episode.arrays[key], rows[key]
            full, tail = extend_checksums(before.tail_crc32, start, new, before.chunk_rows)
            episode.full_chunks += [(number, chunk, checksum) for chunk, checksum in full]
            episode.arrays[key] = replace(before, tail_crc32=tail)
            episode.steps = start + len(new)

    def commit_episode(self, episode: UncommittedEpisode, metadata: StoreMetadata) -> None:
        """Make the rows of an episode part of the store."""
        self._require_there()
        commit = self.commit
        checksums = np.array(sorted(episode.full_chunks), np.int64).reshape(-1, 3)
        meta_crc32 = {
            "episode_ends": self._append_meta("episode_ends", commit.episodes, [episode.steps]),
            "seeds": self._append_meta("seeds", commit.episodes, [episode.seed]),
            "chunk_crc32": self._append_meta("chunk_crc32", commit.checksums, checksums),
        }
        following = Commit(
            episodes=commit.episodes + 1,
            steps=episode.steps,
            complete=commit.complete,
            arrays=dict(episode.arrays),
            checksums=commit.checksums + len(checksums),
            meta_crc32=meta_crc32,
            headers=commit.headers or header_checksums(self.path, episode.arrays, self.zarr_format),
        )
        self.write_commit(following, metadata)

    def write_commit(self, commit: Commit, metadata: StoreMetadata) -> None:
        """Replace the commit record, after everything that it covers is on disk."""
        self._require_there()
        self._durable.sync()
        self._root.update_attributes(attributes_of(commit, metadata))
        self._durable.sync()
        self.commit, self.metadata = commit, metadata

    def _require_there(self) -> None:
        """Refuse to write if the store was deleted or moved.

        Writes make missing folders, and would leave a store without its beginning.
        """
        header = "zarr.json" if self.zarr_format == 3 else ".zgroup"
        for place in (self.path, self.path / "data", self.path / "meta"):
            if not (place / header).is_file():
                raise StoreError(
                    f"{self.path}: the store was deleted or moved while it was being written. Put "
                    "it back and go on, or run the same command again from the start."
                )

    def _write_array(self, key: str, start: int, rows: NDArray[Any]) -> None:
        array = self._opened[key]
        try:
            array.resize((start + len(rows), *rows.shape[1:]))
            array[start:] = rows
        except (OSError, StoreError):
            raise
        except Exception as error:  # writing decodes the last chunk, which may be damaged
            raise StoreCorruptError(
                f"{self.path}/data/{key}, around step {start}: the chunk to add to cannot be "
                f"decoded ({error}). Run `spie-robo verify`; restore the store from a copy."
            ) from error

    def _append_meta(self, name: str, start: int, values: Any) -> int:
        rows = np.asarray(values, np.int64)
        if len(rows):
            array = require_ours(open_array(self._meta, name), self.path / "meta" / name)
            array.resize((start + len(rows), *array.shape[1:]))
            array[start:] = rows
        return crc32(rows, self.commit.meta_crc32[name])

    def _group(self, name: str) -> zarr.Group:
        group = self._root[name]
        if not isinstance(group, zarr.Group):
            raise KeyError(name)
        return group

    def _truncate(self) -> None:
        commit = self.commit
        lengths = {f"data/{key}": commit.steps for key in commit.arrays}
        lengths |= {"meta/episode_ends": commit.episodes, "meta/seeds": commit.episodes}
        lengths["meta/chunk_crc32"] = commit.checksums
        for name, length in lengths.items():
            array = require_ours(open_array(self._root, name), self.path / name)
            if array.shape[0] < length:
                raise StoreCorruptError(
                    f"{self.path}/{name}: expected {length} committed rows, found "
                    f"{array.shape[0]}. Restore the store from a copy."
                )
            if array.shape[0] > length + _MOST_UNCOMMITTED:
                raise StoreCorruptError(
                    f"{self.path}/{name}: expected {length} committed rows, found "
                    f"{array.shape[0]}: more than an episode beyond. Restore the store from a copy."
                )
            if array.shape[0] > length:
                array.resize((length, *array.shape[1:]))
        if not commit.arrays:  # remove arrays of a first episode that was never committed
            for key in list(self._data.array_keys()):
                del self._data[key]
