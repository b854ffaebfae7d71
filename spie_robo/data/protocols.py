"""The seam for other formats: what ``convert`` reads from, and what it writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.store.metadata import StoreMetadata


@runtime_checkable
class EpisodeSource(Protocol):
    """Episodes that can be read piece by piece. :class:`EpisodeStore` is one."""

    @property
    def path(self) -> Path:
        """Where the episodes are."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays that every episode has."""
        ...

    @property
    def metadata(self) -> StoreMetadata:
        """Where the episodes come from."""
        ...

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(episodes,): the seed of each episode, -1 where it has none."""
        ...

    def __len__(self) -> int:
        """Number of episodes."""
        ...

    def episode_length(self, episode: int) -> int:
        """Number of steps of an episode."""
        ...

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Steps ``start`` to ``stop`` of an episode, each array (stop - start, ...)."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content: equal fingerprints, equal episodes."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


@runtime_checkable
class EpisodeSink(Protocol):
    """Something that takes episodes one after another. :class:`EpisodeWriter` is one."""

    @property
    def n_episodes(self) -> int:
        """Episodes that are safely in."""
        ...

    def begin_episode(self, seed: int | None = None) -> None:
        """Start an episode."""
        ...

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one step: each value is one row, without a time axis."""
        ...

    def extend(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Add several steps: each array is (steps, ...)."""
        ...

    def end_episode(self) -> None:
        """Finish the episode; it is durable when this returns."""
        ...
