"""Append episodes to a store, whole or not at all.

Steps of :meth:`EpisodeWriter.end_episode`, each on disk before the next begins:
    1. the rows of every ``data/`` array, beyond the commit;
    2. ``meta/episode_ends``, ``meta/seeds`` and the checksums of chunks that became full;
    3. the commit record, by one atomic rename.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store.appending import StoreOnDisk, UncommittedEpisode
from spie_robo.data.store.asserts import require_asserts
from spie_robo.data.store.commit import ArrayCommit, Commit, attributes_of, read_commit
from spie_robo.data.store.durable import to_the_end
from spie_robo.data.store.layout import (
    RowFormat,
    ZarrFormat,
    chunk_rows,
    create_skeleton,
    row_format,
)
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError
from spie_robo.files.atomic import write_failure
from spie_robo.files.lock import StoreLock

FLUSH_BYTES = 64 * 1024 * 1024
"""Size of an open episode's rows in memory at which they are written to the disk, bytes."""


@final
class EpisodeWriter:
    """The only writer of an episode store; make one with :meth:`create` or :meth:`open`.

    An episode is durable when :meth:`end_episode` returns; nothing needs to be finalised. Closing
    in the middle of an episode discards that episode. The first episode fixes the keys, types and
    shapes of all others.

    Example:
        >>> import tempfile, numpy as np
        >>> from spie_robo.data import EpisodeStore, EpisodeWriter
        >>> path = tempfile.mkdtemp() + "/episodes.zarr"
        >>> with EpisodeWriter.create(path) as writer:
        ...     writer.begin_episode(seed=7)
        ...     writer.append({"action": np.zeros(2, np.float32), "reward": np.float32(1)})
        ...     writer.end_episode()
        >>> EpisodeStore.open(path)[0]["action"].shape
        (1, 2)
    """

    def __init__(self, path: Path, lock: StoreLock) -> None:
        """Open the store; use :meth:`create` or :meth:`open`, which take the lock first."""
        self._path = path
        self._lock: StoreLock | None = lock
        self._disk = StoreOnDisk(path)
        self._metadata = self._disk.metadata
        self._dirty = False
        self._episode: UncommittedEpisode | None = None
        self._buffer: dict[str, list[NDArray[Any]]] = {}
        self._buffered = 0  # bytes

    @classmethod
    def create(
        cls,
        path: str | Path,
        metadata: StoreMetadata | None = None,
        *,
        zarr_format: ZarrFormat = 3,
        complete: bool = True,
    ) -> EpisodeWriter:
        """Create a store without episodes and open it for writing.

        Args:
            path: A path that does not exist yet; parent folders are made.
            metadata: Origin of the episodes, and the cameras.
            zarr_format: 3, with sharding, or 2, which the original ``ReplayBuffer`` reads.
            complete: False for a store that readers refuse until :meth:`mark_complete`.

        Raises:
            StoreError: If the path is in use, or the disk fails.
            StoreLockedError: If another process writes there.
        """
        require_asserts()
        if zarr_format not in (2, 3):
            raise StoreError(f"zarr_format: expected 2 or 3, got {zarr_format!r}.")
        path = Path(path).absolute()
        lock = StoreLock(path)
        try:
            first = attributes_of(Commit(complete=complete), metadata or StoreMetadata())
            to_the_end(lambda: create_skeleton(path, zarr_format, first))
            return cls(path, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path) -> EpisodeWriter:
        """Open a store to append to it, and remove uncommitted rows.

        Raises:
            StoreError: If there is no store at ``path``.
            StoreLockedError: If another process is writing the store.
        """
        path = Path(path).absolute()
        read_commit(path)
        lock = StoreLock(path)
        try:
            return cls(path, lock)
        except BaseException:
            lock.release()
            raise

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._path

    @property
    def n_episodes(self) -> int:
        """Number of committed episodes."""
        return self._on_disk().episodes

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the arrays that are committed, sorted; none in a new store."""
        return tuple(sorted(self._on_disk().arrays))

    @property
    def n_steps(self) -> int:
        """Number of committed steps."""
        return self._on_disk().steps

    @property
    def complete(self) -> bool:
        """True unless a conversion is unfinished."""
        return self._disk.commit.complete

    @property
    def metadata(self) -> StoreMetadata:
        """Origin of the episodes and the cameras, stored with the next commit."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: StoreMetadata) -> None:
        metadata.to_json()  # raises here, not in the middle of a commit
        self._metadata = metadata

    def begin_episode(self, seed: int | None = None) -> None:
        """Start an episode.

        Args:
            seed: Seed of the episode, in [0, 2**63); None if it has none.

        Raises:
            StoreError: If an episode is open already, or the writer is closed.
        """
        self._require_open()
        if self._episode is not None:
            raise StoreError("begin_episode: an episode is open. End or discard it first.")
        if seed is not None and not 0 <= seed < 2**63:
            raise StoreError(f"begin_episode: expected a seed in [0, 2**63), got {seed}.")
        if self._dirty:
            self._reload()
        self._episode = self._disk.begin_episode(-1 if seed is None else int(seed))
        self._buffer, self._buffered = {}, 0

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one step to the open episode; see :meth:`extend`."""
        self.extend({key: np.asarray(value)[np.newaxis] for key, value in row.items()})

    def extend(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Add steps to the open episode.

        Args:
            rows: Arrays of shape (steps, ...), the same keys, types and shapes every time.

        Raises:
            StoreError: If they do not fit the store, or the disk is full. A full disk discards
                the open episode.
        """
        episode = self._require_episode()
        arrays = {key: np.asarray(value) for key, value in rows.items()}
        self._check_rows(episode, arrays)
        for key, array in arrays.items():
            little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=True)
            self._buffer.setdefault(key, []).append(little)
            self._buffered += little.nbytes
        if self._buffered >= FLUSH_BYTES:
            with self._discarding_on_failure():
                self._flush(episode)

    def end_episode(self) -> None:
        """Commit the open episode.

        Raises:
            StoreError: If it has no steps, or the disk is full; the episode is discarded then, and
                earlier ones are intact. If the disk fails after the commit record was replaced, the
                episode stays, and :attr:`n_episodes` counts it.
        """
        episode = self._require_episode()
        with self._discarding_on_failure():
            self._flush(episode)
            if episode.steps == self._disk.commit.steps:
                raise StoreError("end_episode: expected at least one step, got none.")
            to_the_end(lambda: self._disk.commit_episode(episode, self._metadata))
        self._episode = None

    def discard_episode(self) -> None:
        """Discard the open episode; nothing of it stays in the store."""
        self._dirty = self._dirty or self._episode is not None
        self._episode = None
        self._buffer, self._buffered = {}, 0

    def require_fits(self, row: Mapping[str, Any]) -> None:
        """Refuse steps that do not fit the store, before an episode is begun.

        Args:
            row: One step, as for :meth:`append`.

        Raises:
            StoreError: If a key or type cannot be stored, or the store holds others.
        """
        self._require_open()
        arrays = {key: np.asarray(value)[np.newaxis] for key, value in row.items()}
        self._check_rows(self._disk.begin_episode(-1), arrays)

    def add_episode(self, arrays: Mapping[str, NDArray[Any]], seed: int | None = None) -> None:
        """Add and commit a whole episode.

        Args:
            arrays: Arrays of shape (steps, ...).
            seed: Seed of the episode; None if it has none.

        Raises:
            StoreError: As in :meth:`extend` and :meth:`end_episode`.
        """
        self.begin_episode(seed)
        try:
            self.extend(arrays)
            self.end_episode()
        except BaseException:
            self.discard_episode()
            raise

    def mark_complete(self) -> None:
        """Commit that the store is complete, so that readers may open it."""
        self._require_open()
        if self._episode is not None:
            raise StoreError("mark_complete: an episode is open. End or discard it first.")
        if self._dirty:
            self._reload()
        with self._discarding_on_failure():
            commit = replace(self._disk.commit, complete=True)
            to_the_end(lambda: self._disk.write_commit(commit, self._metadata))

    def close(self) -> None:
        """Discard an open episode and release the store; closing twice is allowed."""
        if self._lock is None:
            return
        self.discard_episode()
        if self._dirty:
            with suppress(StoreError):  # the next writer repeats it, once the disk has room
                self._reload()
        self._lock.release()
        self._lock = None

    def __enter__(self) -> EpisodeWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store and discard an open episode."""
        self.close()

    def _require_open(self) -> None:
        if self._lock is None:
            raise StoreError(f"{self._path}: this writer is closed. Open another.")

    def _require_episode(self) -> UncommittedEpisode:
        self._require_open()
        if self._episode is None:
            raise StoreError("No episode is open. Call begin_episode first.")
        return self._episode

    def _check_rows(self, episode: UncommittedEpisode, arrays: Mapping[str, NDArray[Any]]) -> None:
        for key, array in arrays.items():
            if array.ndim == 0:
                raise StoreError(f"Key {key!r}: expected (steps, ...), got a single number.")
        if len({len(array) for array in arrays.values()}) > 1:
            lengths = {key: len(array) for key, array in arrays.items()}
            raise StoreError(f"Expected the same number of steps in every array, got {lengths}.")
        rows = {key: row_format(key, array) for key, array in arrays.items()}
        if not episode.arrays:
            if not rows:
                raise StoreError("Expected at least one array in an episode, got none.")
            episode.arrays.update({k: self._new_array(rows[k]) for k in sorted(rows)})
        expected = {key: array.row for key, array in episode.arrays.items()}
        if rows != expected:
            wrong = sorted(k for k in rows.keys() | expected if rows.get(k) != expected.get(k))
            raise StoreError(
                "Every step has the same keys, types and shapes. "
                + "; ".join(f"{k}: expected {expected.get(k)}, got {rows.get(k)}" for k in wrong)
            )

    def _new_array(self, row: RowFormat) -> ArrayCommit:
        return ArrayCommit(row, chunk_rows(row, self._disk.zarr_format)[0])

    def _flush(self, episode: UncommittedEpisode) -> None:
        if self._buffer:
            rows = {key: _joined(parts) for key, parts in self._buffer.items()}
            self._buffer, self._buffered = {}, 0
            to_the_end(lambda: self._disk.write_rows(episode, rows))

    def _on_disk(self) -> Commit:
        """Return the commit record, from the disk after a failure."""
        return read_commit(self._path)[0] if self._dirty else self._disk.commit

    def _reload(self) -> None:
        """Read the commit record again and remove everything beyond it."""
        self._disk = to_the_end(lambda: StoreOnDisk(self._path))
        self._dirty = False

    @contextmanager
    def _discarding_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.discard_episode()
            self._dirty = True
            if isinstance(error, OSError):
                raise write_failure(self._path, error) from error
            if isinstance(error, KeyError):  # raised by zarr for an array that was deleted
                raise StoreError(
                    f"{self._path}: {error} was deleted or moved while the store was being "
                    "written. Put it back and go on, or run the same command again from the start."
                ) from error
            raise


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the parts to one array and free their memory."""
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return joined
