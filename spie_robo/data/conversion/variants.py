"""Repeat every episode of a source once for each look.

Each copy records its origin in three columns, whatever the format of the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.episode_seed import episode_seed
from spie_robo.data.look_provenance import (
    LOOK_SEED,
    PROVENANCE_COLUMNS,
    SOURCE_EPISODE,
    SYNTHETIC,
)
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import ConfigError


@final
class Variants:
    """An ``EpisodeSource`` that has the episodes of another several times.

    The copies of an episode are neighbours, the raw one first. Editing derives a seed from each
    episode's index, so each copy gets another look.
    """

    def __init__(
        self, source: EpisodeSource, looks: int, *, keep_raw: bool = False, seed: int = 0
    ) -> None:
        """Repeat the episodes of ``source``.

        Args:
            source: Episodes to repeat.
            looks: Number of copies of each episode to edit, 1 or more.
            keep_raw: Whether to add one copy that is not edited.
            seed: Seed of the run, from which the seed of every look is derived.

        Raises:
            ConfigError: If ``looks`` is below one.
        """
        if looks < 1:
            raise ConfigError(f"variants: expected 1 or more, got {looks}.")
        self._source, self._keep_raw, self._seed = source, keep_raw, seed
        self._copies = looks + keep_raw

    @property
    def path(self) -> Path:
        """Folder or file of the episodes."""
        return self._source.path

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of an episode, sorted."""
        return tuple(sorted({*self._source.keys, *PROVENANCE_COLUMNS}))

    @property
    def metadata(self) -> StoreMetadata:
        """Origin of the episodes: environment, editor and cameras."""
        return self._source.metadata

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Seed of each episode's simulation, (episodes,); the look's seed is in its column."""
        return np.repeat(self._source.seeds, self._copies)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._source) * self._copies

    def edits(self, episode: int) -> bool:
        """Return whether the frames of an episode are to be edited."""
        return not self._keep_raw or episode % self._copies > 0

    def episode_length(self, episode: int) -> int:
        """Return the number of steps of an episode."""
        return self._source.episode_length(episode // self._copies)

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return steps ``start`` to ``stop`` of an episode, each array (stop - start, ...)."""
        wanted = self.keys if keys is None else tuple(keys)
        own = [key for key in wanted if key not in PROVENANCE_COLUMNS]
        number = episode // self._copies
        rows = self._source.read_rows(number, start, stop, own)
        edited = self.edits(episode)
        seed = episode_seed(self._seed, episode) if edited else -1
        made: Mapping[str, NDArray[Any]] = {
            SYNTHETIC: np.full(stop - start, edited, np.bool_),
            SOURCE_EPISODE: np.full(stop - start, number, np.int64),
            LOOK_SEED: np.full(stop - start, seed, np.int64),
        }
        return {key: made[key] if key in made else rows[key] for key in wanted}

    def fingerprint(self) -> str:
        """Return a hash of the content of the source."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Close the files of the source."""
        self._source.close()


def is_edited(source: EpisodeSource, episode: int) -> bool:
    """Return whether the frames of an episode are to be edited; only raw copies are not."""
    return source.edits(episode) if isinstance(source, Variants) else True


def edited_steps(source: EpisodeSource) -> int:
    """Return the number of steps of all episodes to edit."""
    return sum(source.episode_length(i) for i in range(len(source)) if is_edited(source, i))
