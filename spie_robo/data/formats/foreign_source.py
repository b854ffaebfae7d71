"""Every reader of a foreign format shares lengths, blocks of rows and a fingerprint."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.damage import named_damage
from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

_HASH_BYTES = 8 * 2**20


class ForeignSource(ABC):
    """Episodes of a foreign data set; an ``EpisodeSource``.

    A reader finds its arrays, lengths and metadata first and gives them to :meth:`__init__`; rows
    are read when they are asked for.
    """

    def __init__(
        self,
        path: Path,
        arrays: Sequence[ForeignArray],
        lengths: Sequence[int],
        metadata: StoreMetadata,
        seeds: NDArray[np.int64],
    ) -> None:
        """Remember what the data set says of itself.

        Raises:
            StoreError: If it has no episodes, or an episode has no steps.
        """
        self.path = path
        self._arrays = {array.key: array for array in arrays}
        self._lengths = tuple(int(length) for length in lengths)
        self._metadata = metadata
        self._seeds = seeds
        empty = [number for number, length in enumerate(self._lengths) if length < 1]
        if not self._lengths or empty:
            found = f"episode {empty[0]} has none" if empty else "there is no episode"
            raise StoreError(f"{path}: expected episodes of one step or more, {found}.")
        limits.check_size(f"{path}: steps", sum(self._lengths), limits.MAX_STEPS)

    @abstractmethod
    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        """Read rows of one array as they are in the file."""

    def declared_faults(self) -> Iterator[str]:
        """Yield one sentence for each difference between declared and real content."""
        yield from ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of an episode, sorted."""
        return tuple(sorted(self._arrays))

    @property
    def metadata(self) -> StoreMetadata:
        """Metadata of the episodes."""
        return self._metadata

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(episodes,): the seed of each episode, -1 where it has none."""
        return self._seeds.copy()

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes together."""
        return sum(self._lengths)

    @property
    def arrays(self) -> tuple[ForeignArray, ...]:
        """Name and place of every array."""
        return tuple(self._arrays.values())

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each episode as a dict of arrays of shape (steps, ...)."""
        return (self.read_rows(i, 0, self._lengths[i]) for i in range(len(self)))

    def episode_length(self, episode: int) -> int:
        """Return the number of steps of an episode."""
        return self._lengths[episode]

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read steps ``start`` to ``stop`` of an episode, each array (stop - start, ...).

        Raises:
            IndexError: If there are no such steps.
            StoreError: If the file is damaged, or there is no such key.
        """
        if not 0 <= start <= stop <= self._lengths[episode]:
            raise IndexError(
                f"Episode {episode} has {self._lengths[episode]} steps, not {start} to {stop}."
            )
        wanted = self.keys if keys is None else tuple(keys)
        missing = sorted(set(wanted) - set(self._arrays))
        if missing:
            raise StoreError(f"{self.path}: it has no {missing}. Its keys are {list(self.keys)}.")
        rows = {}
        for key in wanted:
            array = self._arrays[key]
            with named_damage(self.path):
                found = self._read(array, episode, start, stop)
            if found.shape != (stop - start, *array.shape):
                raise StoreError(
                    f"{self.path}: {array.name} of episode {episode}, steps {start} to {stop - 1}: "
                    f"expected shape {(stop - start, *array.shape)}, got {found.shape}."
                )
            native = found.astype(found.dtype.newbyteorder("="), copy=False)
            rows[key] = array.to_store(native)
        return rows

    def fingerprint(self) -> str:
        """Return SHA-256 of every byte of the data set: equal fingerprints, equal episodes."""
        return self._fingerprint

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Close the files."""

    def __enter__(self) -> ForeignSource:
        """Return the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files."""
        self.close()

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        root = self.path.resolve()  # a link that the user gave leads to the data set
        whole = root.is_dir()
        files = sorted(f for f in root.rglob("*") if f.is_file()) if whole else [root]
        for file in files:
            name = file.relative_to(root) if whole else Path(file.name)
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            limits.check_inside(root, file)
            with file.open("rb") as stream:
                while block := stream.read(_HASH_BYTES):
                    digest.update(block)
        return digest.hexdigest()
