"""Several looks an episode: a source whose every episode is there once for each look.

Each episode says in three columns where it comes from, whatever the format of the output.
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
    """The episodes of a source, each several times; an ``EpisodeSource``.

    The copies of an episode stand side by side, the raw one first. Editing gives every episode of
    its own index a seed of its own, so each copy gets another look.
    """

    def __init__(
        self, source: EpisodeSource, looks: int, *, keep_raw: bool = False, seed: int = 0
    ) -> None:
        """Repeat the episodes of ``source``.

        Args:
            source: Episodes to repeat.
            looks: Copies of each episode that are to be edited, 1 or more.
            keep_raw: Whether there is one more copy that is not.
            seed: Seed of the run, of which every look's seed is derived.

        Raises:
            ConfigError: If ``looks`` is below one.
        """
        if looks < 1:
            raise ConfigError(f"variants: expected 1 or more, got {looks}.")
        self._source, self._keep_raw, self._seed = source, keep_raw, seed
        self._copies = looks + keep_raw

    @property
    def path(self) -> Path:
        """Where the episodes are."""
        return self._source.path

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays of an episode, sorted."""
        return tuple(sorted({*self._source.keys, *PROVENANCE_COLUMNS}))

    @property
    def metadata(self) -> StoreMetadata:
        """Where the episodes come from."""
        return self._source.metadata

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(episodes,): the seed of each episode's simulation; that of a look is in its column."""
        return np.repeat(self._source.seeds, self._copies)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._source) * self._copies

    def edits(self, episode: int) -> bool:
        """Whether the frames of an episode are to be edited."""
        return not self._keep_raw or episode % self._copies > 0

    def episode_length(self, episode: int) -> int:
        """Number of steps of an episode."""
        return self._source.episode_length(episode // self._copies)

    def read_rows(
        self, episode: int, start: int, stop: int, keys: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Steps ``start`` to ``stop`` of an episode, each array (stop - start, ...)."""
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
        """A hash of the content of the source."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Let go of the source's files."""
        self._source.close()


def is_edited(source: EpisodeSource, episode: int) -> bool:
    """Whether the frames of an episode are to be edited: all but the raw copies of variants."""
    return source.edits(episode) if isinstance(source, Variants) else True


def edited_steps(source: EpisodeSource) -> int:
    """Steps of all episodes whose frames are to be edited."""
    return sum(source.episode_length(i) for i in range(len(source)) if is_edited(source, i))
