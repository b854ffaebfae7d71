"""Interfaces of other formats: the source that ``convert`` reads and the sink that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store.metadata import StoreMetadata


@runtime_checkable
class EpisodeSource(Protocol):
    """Episodes that can be read piece by piece, such as :class:`EpisodeStore`."""

    @property
    def path(self) -> Path:
        """Folder or file of the episodes."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays that every episode has."""
        ...

    @property
    def metadata(self) -> StoreMetadata:
        """Origin of the episodes: environment, editor and cameras."""
        ...

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(episodes,): the seed of each episode, -1 where it has none."""
        ...

    def __len__(self) -> int:
        """Return the number of episodes."""
        ...

    def episode_length(self, episode: int) -> int:
        """Return the number of steps of an episode."""
        ...

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the steps ``start`` to ``stop`` of an episode, each array (stop - start, ...)."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the content: equal fingerprints mean equal episodes."""
        ...

    def close(self) -> None:
        """Close open files."""
        ...


@runtime_checkable
class EpisodeSink(Protocol):
    """Writer of episodes, one after another, such as :class:`EpisodeWriter`."""

    @property
    def n_episodes(self) -> int:
        """Number of episodes that are safely stored."""
        ...

    def begin_episode(self, seed: int | None = None) -> None:
        """Start an episode."""
        ...

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one step, as one row a key without a time axis."""
        ...

    def extend(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Add several steps, as one array (steps, ...) a key."""
        ...

    def end_episode(self) -> None:
        """Finish the episode, which is durable when this returns."""
        ...
