"""Write episodes in a foreign format, read them back, and measure what was lost.

``source -> writer (under another name) -> reader -> compare -> rename into place``
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spie_robo.data.formats.registry import format_named
from spie_robo.data.formats.written import Written
from spie_robo.data.protocols import EpisodeSource
from spie_robo.errors import StoreCorruptError
from spie_robo.files.staged import build_at

_CHECK_ROWS = 64


@dataclass(frozen=True)
class Loss:
    """The difference between one array in the output and what was written.

    Attributes:
        key: The array.
        cause: What changed it, e.g. "video, h264".
        mean_error: Mean absolute difference of its values.
        max_error: Largest absolute difference.
        psnr: Peak signal-to-noise ratio in dB, of frames with 255 as the peak; infinite if equal.
    """

    key: str
    cause: str
    mean_error: float
    max_error: float
    psnr: float

    def __str__(self) -> str:
        """Return one line for people."""
        return (
            f"{self.key}: {self.cause}, mean error {self.mean_error:.2f}, largest "
            f"{self.max_error:.0f} of 255, {self.psnr:.1f} dB"
        )


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: The output.
        format: Its format.
        episodes: Episodes in it.
        steps: Steps in it.
        losses: Measured error of every array that changed.
        dropped: Why, by key of an array that the format cannot hold.
        notes: Anything else that a user should know.
    """

    path: Path
    format: str
    episodes: int
    steps: int
    losses: tuple[Loss, ...]
    dropped: dict[str, str]
    notes: tuple[str, ...]


def export_episodes(
    source: EpisodeSource,
    out: str | Path,
    name: str,
    *,
    fps: float | None = None,
    progress: bool = True,
) -> ExportReport:
    """Write episodes in a foreign format; the output appears when it has been read back.

    Args:
        source: Episodes to write.
        out: A path where nothing is.
        name: Name of the format.
        fps: Steps a second, where the episodes do not say and the format needs it.
        progress: Show a progress bar while the output is read back.

    Returns:
        What was written, with the measured error of every array that is not the very same.

    Raises:
        StoreError: If something is at ``out``, the source is damaged or does not fit the format,
            or the disk refuses. Nothing is left at ``out`` then.
        StoreCorruptError: If an array does not read back as it was written.
        MissingExtraError: If the format needs a package that is not installed.
    """
    target = Path(out).absolute()
    chosen = format_named(name)
    with build_at(target) as building:
        written = chosen.write(source, building, fps)
        with chosen.read(building) as result:
            losses = compare(source, result, written, progress=progress)
    return ExportReport(
        target,
        name,
        len(source),
        sum(source.episode_length(i) for i in range(len(source))),
        losses,
        written.dropped,
        written.notes,
    )


def compare(
    source: EpisodeSource, result: EpisodeSource, written: Written, *, progress: bool = False
) -> tuple[Loss, ...]:
    """Compare what was written with what reads back.

    Returns:
        The error of every array that the writer calls lossy.

    Raises:
        StoreCorruptError: If another array differs, or the episodes do.
    """
    lengths = [source.episode_length(i) for i in range(len(source))]
    if lengths != [result.episode_length(i) for i in range(len(result))]:
        raise StoreCorruptError("The output has other episodes than were written.")
    keys = [key for key in source.keys if key not in written.dropped]
    missing = sorted(set(keys) - set(result.keys))
    if missing:
        raise StoreCorruptError(f"The output lacks {missing}, which were written.")
    errors = {key: _Error() for key in keys if key in written.lossy}
    with tqdm(total=sum(lengths), desc="check", unit="step", disable=not progress) as bar:
        for episode, length in enumerate(lengths):
            for start in range(0, length, _CHECK_ROWS):
                stop = min(length, start + _CHECK_ROWS)
                before = source.read_rows(episode, start, stop, keys)
                after = result.read_rows(episode, start, stop, keys)
                for key in keys:
                    if key in errors:
                        errors[key].add(before[key], after[key])
                    else:
                        _require_equal(key, episode, before[key], after[key])
                bar.update(stop - start)
    return tuple(error.loss(key, written.lossy[key]) for key, error in errors.items())


def _require_equal(key: str, episode: int, before: NDArray[Any], after: NDArray[Any]) -> None:
    same = before.dtype == after.dtype and before.shape == after.shape
    if not same or before.tobytes() != after.tobytes():
        raise StoreCorruptError(
            f"{key} of episode {episode} does not read back as it was written ({before.dtype} "
            f"{before.shape}, {after.dtype} {after.shape}). Check the disk, and report this."
        )


class _Error:
    """Sums of the differences of one array, block by block."""

    def __init__(self) -> None:
        self._count = 0
        self._absolute = self._squared = self._largest = 0.0

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        difference = before.astype(np.float64) - after.astype(np.float64)
        self._count += difference.size
        self._absolute += float(np.abs(difference).sum())
        self._squared += float(np.square(difference).sum())
        self._largest = max(self._largest, float(np.abs(difference).max(initial=0)))

    def loss(self, key: str, cause: str) -> Loss:
        mean_square = self._squared / max(1, self._count)
        psnr = math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)
        return Loss(key, cause, self._absolute / max(1, self._count), self._largest, psnr)
