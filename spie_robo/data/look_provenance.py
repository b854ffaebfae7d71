"""Record an episode's origin in three columns, where each episode has several looks."""

from __future__ import annotations

from typing import Any

from spie_robo.data.protocols import EpisodeSource

SYNTHETIC = "synthetic"
"""Key, bool: whether the frames of the episode were edited."""

SOURCE_EPISODE = "source_episode"
"""Key, int64: index of the source's episode that this one is a copy of."""

LOOK_SEED = "look_seed"
"""Key, int64: seed of the episode's look; -1 for raw frames."""

PROVENANCE_COLUMNS = (SYNTHETIC, SOURCE_EPISODE, LOOK_SEED)


def provenance_of(source: EpisodeSource) -> list[dict[str, Any]] | None:
    """Return the columns of each episode as plain JSON values; None without these columns."""
    if not set(PROVENANCE_COLUMNS) <= set(source.keys):
        return None
    said = []
    for episode in range(len(source)):
        rows = source.read_rows(episode, 0, 1, PROVENANCE_COLUMNS)
        seed = int(rows[LOOK_SEED].flat[0])
        said.append(
            {
                "episode_index": episode,
                "synthetic": bool(rows[SYNTHETIC].flat[0]),
                "source_episode": int(rows[SOURCE_EPISODE].flat[0]),
                "seed": None if seed < 0 else seed,
            }
        )
    return said
