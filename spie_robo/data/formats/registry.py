"""The foreign formats by name. A format is one file and one line of :data:`FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from spie_robo.data.formats.damage import named_damage
from spie_robo.data.formats.detect import detect_format
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.written import Written
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.errors import ConfigError

_HERE = "spie_robo.data.formats"


@dataclass(frozen=True)
class Format:
    """One foreign format; its modules are imported on first use.

    Attributes:
        name: What ``--to`` calls it.
        title: For people.
        reader: ``module:class`` of a :class:`ForeignSource`, below this package.
        writer: ``module:function`` with arguments (source, out, fps); ``fps`` is the steps a
            second, for formats that need it and episodes that do not say it.
        read_options: Further keyword arguments of the reader.
        write_options: Further keyword arguments of the writer.
    """

    name: str
    title: str
    reader: str
    writer: str
    read_options: Mapping[str, Any] = field(default_factory=dict)
    write_options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, path: Path) -> ForeignSource:
        """Open the data set at ``path``."""
        source: ForeignSource = _find(self.reader)(path, **self.read_options)
        return source

    def write(self, source: EpisodeSource, out: Path, fps: float | None) -> Written:
        """Write episodes to a path where nothing is."""
        written: Written = _find(self.writer)(source, out, fps, **self.write_options)
        return written


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
    """Return the format that ``--to`` names.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(f"Format: expected one of {['zarr', *FORMATS]}, got {name!r}.")
    return FORMATS[name]


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"{_HERE}.{module}"), name)


def _replay_buffer(name: str, title: str) -> Format:
    reader, writer = "diffusion_policy:ReplayBufferSource", "diffusion_policy:write_replay_buffer"
    return Format(name, title, reader, writer, {"name": name}, {"name": name})


_MINARI = ("minari:MinariSource", "minari:write_minari")
_ALL = (
    _replay_buffer("diffusion-policy", "Diffusion Policy replay buffer, zarr v2 in a folder"),
    _replay_buffer("diffusion-policy-zip", "Diffusion Policy replay buffer, zarr v2 in a zip"),
    _replay_buffer("umi", "UMI dataset.zarr.zip"),
    Format(
        "robomimic",
        "robomimic HDF5",
        "robomimic.files:RobomimicSource",
        "robomimic.file_writer:write_robomimic",
    ),
    Format(
        "lerobot",
        "LeRobot data set v3",
        "lerobot.reader:LeRobotSource",
        "lerobot.writer:write_lerobot",
    ),
    Format("minari", "Minari data set", *_MINARI),
    Format("minari-jpeg", "Minari data set, images as JPEG", *_MINARI, {}, {"jpeg": True}),
)

FORMATS: dict[str, Format] = {item.name: item for item in _ALL}
"""Every foreign format by name."""
