"""Describe a store on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.fields import cameras_of, realism_key
from spie_robo.data.store.layout import ZarrFormat


@dataclass(frozen=True)
class ArraySummary:
    """One array of a store.

    Attributes:
        key: Name of the array.
        dtype: Number type of the array.
        shape: (steps, ...).
        disk_bytes: Size of its files, bytes.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    disk_bytes: int


@dataclass(frozen=True)
class StoreSummary:
    """The contents of a store in numbers.

    Attributes:
        path: The store.
        zarr_format: 2 or 3.
        episodes: Committed episodes.
        steps: Committed steps.
        complete: False if a conversion is unfinished.
        shortest: Steps of the shortest episode.
        longest: Steps of the longest episode.
        env_id: Environment of the episodes; empty if unknown.
        editor_id: Editor of the frames; empty for raw frames.
        instruction: Text that the editor followed.
        cameras: Names of the cameras.
        success_rate: Share of episodes that were solved at some step; None if not recorded.
        acceptance_rates: Share of frames whose edit was accepted, of each edited camera.
        arrays: Every array of ``data/``.
    """

    path: Path
    zarr_format: ZarrFormat
    episodes: int
    steps: int
    complete: bool
    shortest: int
    longest: int
    env_id: str
    editor_id: str
    instruction: str
    cameras: tuple[str, ...]
    success_rate: float | None
    acceptance_rates: tuple[tuple[str, float], ...]
    arrays: tuple[ArraySummary, ...]

    @property
    def disk_bytes(self) -> int:
        """Size of all arrays of ``data/``, bytes."""
        return sum(array.disk_bytes for array in self.arrays)

    def __str__(self) -> str:
        """Return the summary as text."""
        state = "" if self.complete else " (unfinished conversion)"
        lines = [
            f"{self.path}{state}",
            f"  episodes     {self.episodes} of {self.shortest} to {self.longest} steps, "
            f"{self.steps} steps in all",
            f"  size         {self.disk_bytes / 1e6:.1f} MB, zarr format {self.zarr_format}",
            f"  environment  {self.env_id or 'unknown'}",
            f"  editor       {self.editor_id or 'none: raw frames'}",
        ]
        if self.instruction:
            lines.append(f"  instruction  {self.instruction}")
        if self.success_rate is not None:
            lines.append(f"  success      {self.success_rate:.1%} of episodes")
        for camera, rate in self.acceptance_rates:
            lines.append(f"  accepted     {rate:.1%} of the edits of camera {camera}")
        width = max((len(array.key) for array in self.arrays), default=0)
        for a in self.arrays:
            lines.append(f"  {a.key:<{width}}  {a.dtype:<8} {a.shape}  {a.disk_bytes / 1e6:.2f} MB")
        return "\n".join(lines)


def describe_store(path: str | Path, sizes: Mapping[str, int] | None = None) -> StoreSummary:
    """Summarise a store.

    Args:
        path: The store, or a copy of the files that :func:`is_described` selects.
        sizes: Size of each file by name, bytes; None reads them from the disk.

    Raises:
        StoreError: If there is no store at ``path``.
        StoreCorruptError: If a part that has to be read is damaged.
    """
    store = EpisodeStore.open(path, allow_unfinished=True)
    on_disk = _bytes_of_arrays(_sizes(store.path) if sizes is None else sizes)
    lengths = [store.episode_length(i) for i in range(len(store))]
    cameras = cameras_of(store.keys)
    edited = [c for c in cameras if realism_key(c, "accepted") in store.keys]
    rates = tuple((c, _mean(store, realism_key(c, "accepted"))) for c in edited)
    return StoreSummary(
        path=store.path,
        zarr_format=store.zarr_format,
        episodes=len(store),
        steps=store.n_steps,
        complete=store.commit.complete,
        shortest=min(lengths, default=0),
        longest=max(lengths, default=0),
        env_id=store.metadata.env_id,
        editor_id=store.metadata.editor_id,
        instruction=store.metadata.instruction,
        cameras=cameras,
        success_rate=_success_rate(store),
        acceptance_rates=rates,
        arrays=tuple(_summarise_array(store, key, on_disk[key]) for key in store.keys),
    )


def is_described(name: str) -> bool:
    """Return whether :func:`describe_store` reads the file of this name below the store."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[0] == "meta":
        return bool(parts)
    if parts[0] != "data":
        return False
    key, file = parts[1], parts[-1]
    read = key == "success" or (key.startswith("realism_") and key.endswith("_accepted"))
    return read or file == "zarr.json" or file.startswith(".z")


def _sizes(folder: Path) -> dict[str, int]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def _bytes_of_arrays(sizes: Mapping[str, int]) -> Counter[str]:
    """Return the bytes of the files of each array of ``data/``."""
    total: Counter[str] = Counter()
    for name, size in sizes.items():
        folder, _, rest = name.partition("/")
        if folder == "data":
            total[rest.partition("/")[0]] += size
    return total


def _mean(store: EpisodeStore, key: str) -> float:
    return float(np.mean(store.array(key).read(0, store.n_steps)))


def _success_rate(store: EpisodeStore) -> float | None:
    if "success" not in store.keys or len(store) == 0:
        return None
    solved = store.array("success").read(0, store.n_steps)
    starts = np.concatenate([[0], store.episode_ends[:-1]])
    return float(np.mean(np.logical_or.reduceat(solved, starts)))


def _summarise_array(store: EpisodeStore, key: str, size: int) -> ArraySummary:
    row = store.commit.arrays[key].row
    return ArraySummary(key, row.dtype, (store.n_steps, *row.shape), size)
