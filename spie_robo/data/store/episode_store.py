"""Read episode stores; :class:`EpisodeStore` describes the file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from spie_robo.data.store.commit import Commit, read_commit
from spie_robo.data.store.headers import InsideStore
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.reading import CheckedArray, read_meta
from spie_robo.errors import StoreCorruptError, StoreError


@final
class EpisodeStore:
    """Episodes on disk: a zarr group laid out as Diffusion Policy's replay buffer.

    With T the number of steps of all episodes together, N the number of episodes, (H, W) the size
    of a camera's frames::

        data/action                     float32 (T, A)
        data/state                      float32 (T, S)         proprioception
        data/reward                     float32 (T,)
        data/success                    bool    (T,)           the task is solved after the action
        data/<camera>_rgb               uint8   (T, H, W, 3)   what the policy saw: edited, or the
                                                               raw frame if the edit was rejected
        data/<camera>_raw               uint8   (T, H, W, 3)   the simulator's frame; only where an
                                                               editor was used, else it is _rgb
        data/<camera>_depth             float32 (T, H, W)      metres along the optical axis
        data/<camera>_segmentation      int32   (T, H, W)      instance ids; names in the attributes
        data/<camera>_extrinsics        float32 (T, 4, 4)      world to camera (OpenCV axes)
        data/realism_<camera>_accepted  bool    (T,)           the guard accepted the last edit
        data/realism_<camera>_edited    bool    (T,)           _rgb is an edit
        data/realism_<camera>_attempts  int32   (T,)           edits tried
        data/realism_<camera>_seed      int64   (T,)           seed of the last edit tried
        data/realism_<camera>_<name>    float32 (T,)           a measured deviation, NaN if not
                                                               measured (names: fields.DEVIATIONS)
        meta/episode_ends               int64   (N,)           cumulative, exclusive
        meta/seeds                      int64   (N,)           seed of each episode, -1 if none
        meta/chunk_crc32                int64   (M, 3)         number of the key in sorted order,
                                                               chunk, CRC-32 of its decoded rows

    A store may hold further keys of any number type. Episode ``i`` is rows ``episode_ends[i - 1]``
    to ``episode_ends[i]``; row t holds the observation o_t, the action a_t that was taken in it and
    the reward r_t that it earned. An episode of n actions has n rows; the last observation, after
    the last action, is not stored.

    Root attributes::

        schema, schema_version   "spie_robo.episodes", 1
        metadata                 env_id, env_spec, editor_id, instruction, provenance, and per
                                 camera: intrinsics (3, 3) in pixels, names {segmentation id: name}
        commit                   episodes, steps, complete; per key dtype, shape, chunk_rows and
                                 tail_crc32 (the last chunk, until it is full); crc32 of the
                                 committed part of each meta array, of every header but the
                                 root's (lengths left out), and of the record itself

    Chunks cut the time axis only. ``zarr_format`` 3 packs about 256 KB a chunk into shards of
    about 8 MB; 2 has one chunk a file with Blosc and no other codec. Rows beyond the commit record
    belong to an append that is running or was interrupted: they are not part of the store.

    Reading checks every chunk: damaged or missing frames raise an error and are never returned. A
    store is a sequence of episodes, each a dict of arrays of shape (steps, ...).
    """

    def __init__(self, path: Path, keys: Sequence[str] | None, allow_unfinished: bool) -> None:
        """Open the store; use :meth:`open` instead."""
        self._path = path
        self._commit, self._metadata, self._zarr_format = read_commit(path)
        if not self._commit.complete and not allow_unfinished:
            raise StoreError(
                f"{path} is an unfinished conversion with {self._commit.episodes} episodes so far. "
                "Run the same convert command again to resume it, or delete it."
            )
        self._root = self._open_root()
        self._ends = read_meta(self._root, path, "episode_ends", self._commit)
        self._seeds = read_meta(self._root, path, "seeds", self._commit)
        bounds = np.concatenate([[0], self._ends])
        if bounds[-1] != self._commit.steps or (np.diff(bounds) <= 0).any():
            raise StoreCorruptError(f"{path}/meta/episode_ends: it does not fit the commit record.")
        self._checksums = read_meta(self._root, path, "chunk_crc32", self._commit)
        self._arrays: dict[str, CheckedArray] = {}
        self._keys = self._choose(keys)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        keys: Sequence[str] | None = None,
        allow_unfinished: bool = False,
    ) -> EpisodeStore:
        """Open a store for reading, as of its last commit.

        Args:
            path: Folder of the store.
            keys: Arrays to read; None reads all.
            allow_unfinished: Open also a conversion that is not finished.

        Raises:
            StoreError: If there is no store at ``path``, or it is unfinished or lacks a key.
            StoreCorruptError: If it is damaged.
        """
        return cls(Path(path).absolute(), keys, allow_unfinished)

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._path

    def close(self) -> None:
        """Do nothing: a store opens its files for each read."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of an episode, sorted."""
        return self._keys

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes together."""
        return self._commit.steps

    @property
    def episode_ends(self) -> NDArray[np.int64]:
        """End of each episode, int64, (episodes,), cumulative and exclusive."""
        return self._ends.copy()

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Seed of each episode, int64, (episodes,); -1 where none was given."""
        return self._seeds.copy()

    @property
    def metadata(self) -> StoreMetadata:
        """Origin of the episodes, and the cameras."""
        return self._metadata

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The root attributes as they are on disk, read-only."""
        return MappingProxyType(dict(self._root.attrs))

    @property
    def commit(self) -> Commit:
        """Commit record that this store shows."""
        return self._commit

    @property
    def zarr_format(self) -> ZarrFormat:
        """Version of the zarr format: 2 or 3."""
        return self._zarr_format

    def fingerprint(self) -> str:
        """Return a hash of the content; it differs for other episodes, up to CRC-32 collisions."""
        return self._commit.fingerprint(self._metadata)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self._commit.episodes

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each episode as a dict of arrays of shape (steps, ...)."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, episode: int) -> dict[str, NDArray[Any]]:
        """Return one episode as a dict of arrays of shape (steps, ...); -1 is the last.

        Raises:
            IndexError: If there is no such episode.
            StoreCorruptError: If a chunk of it is missing or damaged.
        """
        return self.read_rows(episode, 0, self.episode_length(episode))

    def episode_length(self, episode: int) -> int:
        """Return the number of steps of an episode.

        Raises:
            IndexError: If there is no such episode.
        """
        start, stop = self._bounds(episode)
        return stop - start

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return some steps of one episode.

        Args:
            episode: Index of the episode.
            start: First step.
            stop: End of the steps, exclusive.
            keys: Arrays to read; None reads all of :attr:`keys`.

        Raises:
            IndexError: If the episode has no such steps.
            StoreError: If there is no such key.
            StoreCorruptError: If a chunk is missing or damaged.
        """
        first, end = self._bounds(episode)
        if not 0 <= start <= stop <= end - first:
            raise IndexError(f"Episode {episode} has {end - first} steps, not {start} to {stop}.")
        chosen = self._keys if keys is None else self._choose(keys)
        return {key: self.array(key).read(first + start, first + stop) for key in chosen}

    def array(self, key: str) -> CheckedArray:
        """Return one array over all episodes.

        Raises:
            StoreError: If there is no such key.
            StoreCorruptError: If the array is missing or is not what was committed.
        """
        if key not in self._arrays:
            self._choose([key])
            number = sorted(self._commit.arrays).index(key)
            mine = self._checksums[self._checksums[:, 0] == number]
            if not np.array_equal(mine[:, 1], np.arange(len(mine))):
                raise StoreCorruptError(f"{self._path}/meta/chunk_crc32: chunks of {key} differ.")
            self._arrays[key] = CheckedArray(self._root, self._path, key, self._commit, mine[:, 2])
        return self._arrays[key]

    def _open_root(self) -> zarr.Group:
        store = InsideStore(LocalStore(self._path, read_only=True))
        try:
            return zarr.open_group(
                store, mode="r", zarr_format=self._zarr_format, use_consolidated=False
            )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise StoreCorruptError(
                f"{self._path}: its zarr group cannot be read: {error}. Restore the store from a "
                "copy."
            ) from error

    def _choose(self, keys: Sequence[str] | None) -> tuple[str, ...]:
        present = tuple(sorted(self._commit.arrays))
        if keys is None:
            return present
        missing = sorted(set(keys) - set(present))
        if missing:
            raise StoreError(f"{self._path}: it has no {missing}. Its keys are {list(present)}.")
        return tuple(keys)

    def _bounds(self, episode: int) -> tuple[int, int]:
        count = len(self)
        if not -count <= episode < count:
            raise IndexError(f"{self._path} has {count} episodes, there is no episode {episode}.")
        episode %= count
        return int(self._ends[episode - 1]) if episode else 0, int(self._ends[episode])
