"""What an episode says of itself where there are several looks of each: three columns."""

from __future__ import annotations

from typing import Any

from spie_robo.data.protocols import EpisodeSource

SYNTHETIC = "synthetic"
"""Key, bool: whether the frames of the episode were given to an editor."""

SOURCE_EPISODE = "source_episode"
"""Key, int64: index of the episode of the source whose copy this is."""

LOOK_SEED = "look_seed"
"""Key, int64: seed of the episode's look; -1 for a raw one."""

PROVENANCE_COLUMNS = (SYNTHETIC, SOURCE_EPISODE, LOOK_SEED)


def provenance_of(source: EpisodeSource) -> list[dict[str, Any]] | None:
    """What the columns say of each episode, as plain JSON values; None if there are none."""
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
