"""The formats by name: how each is read and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from spie_robo.data.formats.damage import named_damage
from spie_robo.data.formats.detect import detect_format
from spie_robo.data.formats.reading import ForeignSource
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.errors import ConfigError

Reader = Callable[[Path], ForeignSource]
Writer = Callable[[EpisodeSource, Path, "float | None"], "Written"]


@dataclass(frozen=True)
class Written:
    """What a writer could not write as it was.

    Attributes:
        lossy: Why, by key of an array whose values changed, e.g. "video, h264".
        dropped: Why, by key of an array that is not in the output.
        notes: Anything else to tell.
    """

    lossy: dict[str, str]
    dropped: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One foreign format.

    Attributes:
        name: What ``--to`` calls it.
        title: For people.
        read: Opens a data set.
        write: Writes episodes to a path where nothing is; the last argument is the steps a second,
            for formats that need them and episodes that do not tell.
    """

    name: str
    title: str
    read: Reader
    write: Writer


def open_source(path: str | Path, name: str | None = None) -> EpisodeSource:
    """Open a data set of any format for reading.

    Args:
        path: Folder or file.
        name: Its format; None finds it.

    Returns:
        An :class:`EpisodeStore`, or the reader of a foreign format.

    Raises:
        StoreError: If there is none, or it is damaged, or asks for too much.
        MissingExtraError: If the format needs a package that is not installed.
    """
    found = detect_format(path) if name is None else name
    if found == "zarr":
        return EpisodeStore.open(path)
    path = Path(path).absolute()
    with named_damage(path):
        return format_named(found).read(path)


def format_named(name: str) -> Format:
    """The format that ``--to`` names.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(f"Format: expected one of {['zarr', *FORMATS]}, got {name!r}.")
    return FORMATS[name]


def _read_replay_buffer(name: str, path: Path) -> ForeignSource:
    from spie_robo.data.formats.diffusion_policy import ReplayBufferSource

    return ReplayBufferSource(path, name)  # type: ignore[arg-type]


def _write_replay_buffer(name: str, source: EpisodeSource, out: Path, fps: float | None) -> Written:
    from spie_robo.data.formats.diffusion_policy import write_replay_buffer

    write_replay_buffer(source, out, name)  # type: ignore[arg-type]
    return Written({}, {})


def _read_with(module: str, path: Path) -> ForeignSource:
    source: ForeignSource = import_module(f"spie_robo.data.formats.{module}").open_episodes(path)
    return source


def _write_with(module: str, source: EpisodeSource, out: Path, fps: float | None) -> Written:
    written: Written = import_module(f"spie_robo.data.formats.{module}").write(source, out, fps)
    return written


def _replay_buffer(name: str, title: str) -> Format:
    return Format(
        name, title, partial(_read_replay_buffer, name), partial(_write_replay_buffer, name)
    )


def _write_jpeg(source: EpisodeSource, out: Path, fps: float | None) -> Written:
    from spie_robo.data.formats.minari import write

    return write(source, out, fps, jpeg=True)


def _module(name: str, title: str) -> Format:
    return Format(name, title, partial(_read_with, name), partial(_write_with, name))


FORMATS: dict[str, Format] = {
    item.name: item
    for item in (
        _replay_buffer("diffusion-policy", "Diffusion Policy replay buffer, zarr v2 in a folder"),
        _replay_buffer("diffusion-policy-zip", "Diffusion Policy replay buffer, zarr v2 in a zip"),
        _replay_buffer("umi", "UMI dataset.zarr.zip"),
        _module("robomimic", "robomimic HDF5"),
        _module("lerobot", "LeRobot data set v3"),
        _module("minari", "Minari data set"),
        Format(
            "minari-jpeg",
            "Minari data set, images as JPEG",
            partial(_read_with, "minari"),
            _write_jpeg,
        ),
    )
}
"""Every foreign format by name."""
