"""Open the stores that windows come from: this package's, and the original Diffusion Policy's."""

from __future__ import annotations

import hashlib
import math
import shlex
import zipfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray

from spie_robo.data import EpisodeStore
from spie_robo.data.formats.damage import named_damage
from spie_robo.data.formats.detect import detect_format
from spie_robo.data.formats.zarr_files import open_zarr
from spie_robo.data.store.commit import SCHEMA
from spie_robo.errors import SpieRoboError, StoreError


class Source(ABC):
    """A store of episodes: arrays of all episodes together, and the end of each episode.

    Attributes:
        path: Folder of the store.
        env_id: Gymnasium id of the environment; empty if the store does not say.
        episode_ends: int64, (episodes,), cumulative and exclusive.
        shapes: Shape of each array, the steps of all episodes first.
    """

    path: Path
    env_id: str
    episode_ends: NDArray[np.int64]
    shapes: dict[str, tuple[int, ...]]

    @abstractmethod
    def dtype(self, key: str) -> np.dtype[Any]:
        """Return the type of an array."""

    @abstractmethod
    def read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of an array.

        Raises:
            StoreCorruptError: If the store has checksums, and one does not match.
            StoreError: If the array cannot be decoded.
        """

    @abstractmethod
    def fingerprint(self, key: str) -> str:
        """Return hex digits that change with the array, as a name for copies of it."""

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes together."""
        return int(self.episode_ends[-1]) if len(self.episode_ends) else 0

    def require(self, key: str) -> None:
        """Refuse a key that the store does not have.

        Raises:
            StoreError: If it is missing, with the keys that exist.
        """
        if key not in self.shapes:
            raise StoreError(
                f"{self.path}: it has no {key!r}, which the policy needs. Its keys are "
                f"{sorted(self.shapes)}: choose with --camera and --state."
            )


@final
class RecordedSource(Source):
    """A store that ``spie-robo record`` or ``convert`` wrote; all reads are checked."""

    def __init__(self, store: EpisodeStore) -> None:
        """Read from ``store``."""
        self._store = store
        self.path, self.env_id = store.path, store.metadata.env_id
        self.episode_ends = store.episode_ends
        arrays = store.commit.arrays
        self.shapes = {key: (store.n_steps, *arrays[key].row.shape) for key in store.keys}

    def dtype(self, key: str) -> np.dtype[Any]:
        """Return the type of an array."""
        return np.dtype(self._store.commit.arrays[key].row.dtype)

    def read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of an array and compare their checksums."""
        return self._store.array(key).read(start, stop)

    def fingerprint(self, key: str) -> str:
        """Return the fingerprint of the whole store."""
        return self._store.fingerprint()


@final
class ReplayBufferWindows(Source):
    """A zarr group as the original Diffusion Policy's ``ReplayBuffer`` writes it.

    It holds ``data/<key>`` and ``meta/episode_ends`` without checksums: zarr reads a missing chunk
    as its fill value, and this cannot be detected.
    """

    env_id = ""

    def __init__(self, path: Path, root: zarr.Group) -> None:
        """Read from the group ``root`` at ``path``, whose headers were checked.

        Raises:
            StoreError: If it is not a replay buffer.
        """
        # Find the arrays and the ends of the episodes.
        self.path = path
        self._arrays = _members(root, "data")
        ends = _members(root, "meta").get("episode_ends")
        if not self._arrays or ends is None:
            raise StoreError(
                f"{path}: expected an episode store or a replay buffer with data/<key> and "
                "meta/episode_ends, found a zarr group without them."
            )
        if ends.ndim != 1 or ends.dtype.kind not in "iu":
            raise StoreError(
                f"{path}/meta/episode_ends: expected a list of whole numbers, found {ends.dtype} "
                f"of shape {ends.shape}. Restore it from a copy."
            )
        # The ends must ascend, and every array must reach the last.
        self.episode_ends = np.asarray(ends[:], np.int64)
        if (np.diff(self.episode_ends, prepend=0) < 0).any():
            raise StoreError(f"{path}/meta/episode_ends: expected ascending row numbers.")
        short = sorted(
            k for k, a in self._arrays.items() if not a.ndim or a.shape[0] < self.n_steps
        )
        if short:
            raise StoreError(
                f"{path}: expected at least {self.n_steps} rows, as meta/episode_ends says, but "
                f"{short} have fewer. Restore it from a copy."
            )
        self.shapes = {key: (self.n_steps, *a.shape[1:]) for key, a in self._arrays.items()}

    def dtype(self, key: str) -> np.dtype[Any]:
        """Return the type of an array."""
        return np.dtype(self._arrays[key].dtype)

    def read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of an array."""
        with named_damage(self.path / "data" / key):
            return np.asarray(self._arrays[key][start:stop])

    def fingerprint(self, key: str) -> str:
        """Return a hash of the names, sizes and times of the array's files."""
        folder = self.path / "data" / key
        files = sorted(f for f in folder.rglob("*") if f.is_file()) or [self.path]  # or a zip file
        described = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return hashlib.sha256(repr((described, self.n_steps)).encode()).hexdigest()


def open_windows(path: Path) -> Source:
    """Open a store of this package, or one of the original Diffusion Policy tools, zipped or not.

    Raises:
        StoreError: If there is neither, or it asks for pickles or for absurd sizes. For a data
            set of another format the message names the command that converts it.
        StoreCorruptError: If the store is damaged.
    """
    path = Path(path).absolute()
    if (path / ".zgroup").is_file() or zipfile.is_zipfile(path):
        with named_damage(path):
            files = open_zarr(path)
        if files.attributes.get("schema") != SCHEMA:
            return ReplayBufferWindows(path, files.root)
    if (name := _other_format(path)) is not None:
        store = shlex.quote(str(path.with_name(f"{path.stem}_store.zarr")))
        raise StoreError(
            f"{path}: expected an episode store, found a data set of the format {name}. Convert it "
            f"first: spie-robo convert {shlex.quote(str(path))} {store} --editor none"
        )
    return RecordedSource(EpisodeStore.open(path))


def block_rows(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the number of rows in about 16 MB, to read at a time."""
    return max(1, 16 * 2**20 // max(1, dtype.itemsize * math.prod(row_shape)))


def _other_format(path: Path) -> str | None:
    """Return the foreign format of a data set that ``convert`` reads; None if there is none."""
    with suppress(SpieRoboError):  # opening the store reports its faults better
        name = detect_format(path)
        return None if name == "zarr" else name
    return None


def _members(root: zarr.Group, group: str) -> dict[str, zarr.Array[Any]]:
    try:
        found = root[group]
    except KeyError:
        return {}
    if not isinstance(found, zarr.Group):
        return {}
    return {name.rsplit("/", 1)[-1]: array for name, array in found.arrays()}
