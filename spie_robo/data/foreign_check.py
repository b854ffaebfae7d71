"""Read a data set of any format once and report what would spoil hours of work with it.

``data set -> open -> declared counts, times, tasks, cameras -> one line a fault``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spie_robo.data.formats.detect import detect_format
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.registry import open_source
from spie_robo.data.formats.source_record import TASK_KEY, SourceRecord
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields
from spie_robo.data.store.verify import verify_store
from spie_robo.errors import StoreError
from spie_robo.settings.wording import counted

BLACK_LEVEL = 4
"""Largest colour of a black frame, of 255."""

FROZEN_STEPS = 5
"""Fewest steps of an episode in which a camera with equal frames counts as frozen."""

_ROWS = 64
_IRREGULAR = 0.5
_TIMES = ("timestamp", "recorded_timestamp")


@dataclass(frozen=True)
class SetReport:
    """The result of :func:`check_data_set`.

    Attributes:
        path: The data set.
        format: Format of the data set; empty if it is unknown.
        episodes: Number of episodes read.
        steps: Number of steps read.
        faults: One sentence for each fault; empty if there is none.
        notes: Parts that a reader leaves out, which are no faults.
    """

    path: Path
    format: str
    episodes: int
    steps: int
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if no fault was found."""
        return not self.faults

    def __str__(self) -> str:
        """Return the report as text, with one line for each fault."""
        size = f"{counted(self.episodes, 'episode')}, {counted(self.steps, 'step')} read"
        found = "no fault found" if self.ok else counted(len(self.faults), "fault")
        lines = [f"{self.path} ({self.format or 'unknown format'}): {found} ({size})"]
        lines += [f"  fault: {fault.rstrip('.')}" for fault in self.faults]
        return "\n".join([*lines, *(f"  note: {note.rstrip('.')}" for note in self.notes)])


@dataclass
class _Camera:
    """The faults of one camera, episode by episode."""

    black: list[int] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)


def check_data_set(path: str | Path, *, progress: bool = False) -> SetReport:
    """Read every step of a data set and report its faults.

    Args:
        path: A store, or a data set of any format. It is only read.
        progress: Show a progress bar.

    Returns:
        The faults: counts that differ from the declared ones, rows or files of no episode, times
        that do not grow, missing or empty instructions, numbers that are not finite, and cameras
        that are black, frozen or cannot be decoded. A data set that cannot be opened is one fault.
    """
    path = Path(path).absolute()
    found = ""
    try:
        found = detect_format(path)
        source = open_source(path, found)
    except StoreError as error:
        return SetReport(path, found, 0, 0, (str(error),))
    try:
        faults = list(_verified(path) if found == "zarr" else _declared(source))
        faults += _task_faults(source)
        faults += _content_faults(source, progress)
        record = SourceRecord.of(source.metadata)
        notes = () if record is None or found == "zarr" else record.notes
        steps = sum(source.episode_length(i) for i in range(len(source)))
        return SetReport(path, found, len(source), steps, tuple(faults), notes)
    finally:
        source.close()


def _verified(path: Path) -> Iterator[str]:
    """Yield the faults that the store's own checksums reveal."""
    yield from verify_store(path).problems


def _declared(source: EpisodeSource) -> Iterator[str]:
    """Yield what differs from the declarations in the files of a foreign data set."""
    if isinstance(source, ForeignSource):
        try:
            yield from source.declared_faults()
        except StoreError as error:
            yield str(error)


def _task_faults(source: EpisodeSource) -> Iterator[str]:
    """Yield one line for steps whose instruction is missing or empty."""
    if TASK_KEY not in source.keys:
        return
    record = SourceRecord.of(source.metadata)
    tasks = () if record is None else record.tasks
    without: dict[str, list[int]] = {}
    for episode in range(len(source)):
        try:
            rows = source.read_rows(episode, 0, source.episode_length(episode), [TASK_KEY])
        except StoreError as error:
            yield str(error)
            return
        for number in np.unique(rows[TASK_KEY]).tolist():
            if not 0 <= number < len(tasks):
                without.setdefault(f"{TASK_KEY} {number} has no text", []).append(episode)
            elif not tasks[number].strip():
                without.setdefault(f"{TASK_KEY} {number} has an empty text", []).append(episode)
    for what, episodes in without.items():
        yield f"{what} ({_listed(episodes, len(source))})"


def _content_faults(source: EpisodeSource, progress: bool) -> list[str]:
    """Return the faults of the rows themselves, reading each once."""
    cameras = {key: _Camera() for key in map(fields.rgb_key, fields.cameras_of(source.keys))}
    numbers = [key for key in source.keys if key not in cameras]
    said: dict[str, list[int]] = {}
    steps = sum(source.episode_length(i) for i in range(len(source)))
    with tqdm(total=steps, desc="check", unit="step", disable=not progress) as bar:
        for episode in range(len(source)):
            for what in _number_faults(source, episode, numbers):
                said.setdefault(what, []).append(episode)
            for key, camera in cameras.items():
                _look(source, episode, key, camera)
            bar.update(source.episode_length(episode))
    faults = [f"{what} ({_listed(episodes, len(source))})" for what, episodes in said.items()]
    for key, camera in cameras.items():
        faults += _camera_faults(fields.cameras_of([key])[0], camera, len(source))
    return faults


def _number_faults(source: EpisodeSource, episode: int, keys: Sequence[str]) -> Iterator[str]:
    """Yield the faults in the arrays of an episode that are not cameras."""
    length = source.episode_length(episode)
    for key in keys:
        finite, times = True, []
        try:
            for start in range(0, length, _ROWS):
                stop = min(length, start + _ROWS)
                rows = source.read_rows(episode, start, stop, [key])[key]
                whole = key.endswith((fields.depth_key(""), *_TIMES)) or key.startswith("realism_")
                finite = finite and (whole or rows.dtype.kind != "f" or np.isfinite(rows).all())
                times.append(rows if key in _TIMES else rows[:0])
        except StoreError as error:
            yield f"{key} cannot be read: {error}"
            continue
        if not finite:
            yield f"{key} holds NaN or infinity"
        if key in _TIMES:
            yield from _time_faults(key, np.concatenate(times).astype(np.float64).reshape(-1))


def _time_faults(key: str, times: NDArray[np.float64]) -> Iterator[str]:
    steps = np.diff(times)
    if not np.isfinite(times).all():
        yield f"{key} holds NaN or infinity"
    elif (steps <= 0).any():
        yield f"{key} does not grow from step to step"
    elif len(steps) > 1:
        usual = float(np.median(steps))
        if (np.abs(steps - usual) > _IRREGULAR * usual).any():
            yield f"{key} jumps by more than {_IRREGULAR:.0%} of a step"


def _look(source: EpisodeSource, episode: int, key: str, camera: _Camera) -> None:
    """Check the frames of one camera in one episode."""
    length = source.episode_length(episode)
    first: NDArray[Any] | None = None
    black = frozen = True
    try:
        for start in range(0, length, _ROWS):
            rows = source.read_rows(episode, start, min(length, start + _ROWS), [key])[key]
            first = rows[0] if first is None else first
            black = black and int(rows.max(initial=0)) <= BLACK_LEVEL
            frozen = frozen and bool((rows == first).all())
    except StoreError as error:
        camera.broken[episode] = str(error)
        return
    if black:
        camera.black.append(episode)
    elif frozen and length >= FROZEN_STEPS:
        camera.frozen.append(episode)


def _camera_faults(name: str, camera: _Camera, episodes: int) -> Iterator[str]:
    if camera.black:
        yield f"camera {name} is black ({_listed(camera.black, episodes)})"
    if camera.frozen:
        yield f"camera {name} shows one frame only ({_listed(camera.frozen, episodes)})"
    for reason, count in Counter(camera.broken.values()).items():
        broken = [episode for episode, why in camera.broken.items() if why == reason]
        where = _listed(broken, episodes)
        yield f"camera {name} cannot be decoded in {counted(count, 'episode')} ({where}): {reason}"


def _listed(episodes: Sequence[int], total: int) -> str:
    """Return the first few of some episodes as text."""
    if len(episodes) == total and total > 1:
        return f"all {total} episodes"
    few = ", ".join(str(episode) for episode in episodes[:3])
    more = f" and {len(episodes) - 3} more" if len(episodes) > 3 else ""
    return f"episode {few}{more} of {total}"
