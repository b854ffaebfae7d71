"""Minari's data set folder, in HDF5.

Format: https://minari.farama.org/content/dataset_standards/::

    data/metadata.json               total_episodes, total_steps, spaces as JSON, jpeg_encoding, ...
    data/main_data.hdf5
      episode_<i>                    attributes id, seed, total_steps
      episode_<i>/observations       (T + 1, ...), or a group with one array a key
      episode_<i>/actions            (T, A), or a group
      episode_<i>/rewards            (T,)
      episode_<i>/terminations       (T,)
      episode_<i>/truncations        (T,)
      episode_<i>/infos/<key>        (T + 1, ...)

A store keeps the T steps in which something was done. The last observation is left out when a data
set is read, and is that of the step before when one is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.detect import minari_folder
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.hdf5_files import (
    check_dataset,
    child_group,
    datasets_below,
    open_hdf5,
    read_dataset,
    same_layout,
)
from spie_robo.data.formats.naming import ForeignArray, map_arrays
from spie_robo.data.formats.pictures import decode_picture, picture_size
from spie_robo.data.formats.source_record import (
    PASSENGER,
    SourceRecord,
    arrays_for,
    no_seeds,
    pack,
    plain,
    unpack,
    with_source,
)
from spie_robo.data.formats.written import Written
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

if TYPE_CHECKING:
    import h5py

NAME = "minari"
JPEG_QUALITY = 75
"""Pillow's default, which Minari leaves as it is."""

_ENDS = ("terminations", "truncations")
_TOP = {"action": "actions", "reward": "rewards", **{name: name for name in _ENDS}}
_WANTED = ("actions", "rewards", *_ENDS)
"""What every episode of Minari has: made up by write_minari() where the episodes have none."""

_OBSERVATIONS = "observations/"
_KEPT = ("dataset_id", "env_spec", "algorithm_name", "author", "code_permalink", "description")
_NOTE = "The last observation of each episode, in which nothing was done, was not kept."

Layout = tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], int]


@final
class MinariSource(ForeignSource):
    """Reads a Minari data set; see the module for its layout."""

    def __init__(self, path: Path) -> None:
        """Open the data set at ``path``.

        Raises:
            StoreError: If it is damaged or asks for too much.
            MissingExtraError: If h5py is not installed.
        """
        about = _read_metadata(path)
        file = limits.check_inside(path, minari_folder(path) / "main_data.hdf5")
        self._file = open_hdf5(file)
        self._pictures: set[str] = set()
        self._notes: list[str] = [_NOTE]
        try:
            self._open(path, about)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path, about: Mapping[str, Any]) -> None:
        count = about.get("total_episodes")
        limit = limits.MAX_MEMBERS
        if not isinstance(count, int) or not 0 < count <= limit or count > len(self._file):
            raise StoreError(f"{path}: it claims {count!r} episodes, {len(self._file)} are there.")
        names = [f"episode_{i}" for i in range(count)]
        self._episodes = [self._group(path, name) for name in names]
        images = set(_image_names(about))
        layouts = [
            self._layout(f"{path}: {name}", group, images)
            for name, group in zip(names, self._episodes, strict=True)
        ]
        found, lengths = same_layout(path, names, layouts)
        travelled = unpack(about.get(PASSENGER), count, str(path))
        known: tuple[ForeignArray, ...] = ()
        if travelled is not None:
            known = _told_places(about, path)
            told = {place.name for place in known}
            found = {n: a for n, a in found.items() if n in told or n not in _WANTED}
        arrays = map_arrays(found, known, _renamed(found), ours=travelled is not None)
        extras = {name: plain(about[name]) for name in _KEPT if name in about}
        record = SourceRecord(NAME, arrays, notes=tuple(dict.fromkeys(self._notes)), extras=extras)
        metadata, seeds = travelled or (
            with_source(StoreMetadata(env_id=_env_id(about)), record),
            self._seeds_found(),
        )
        super().__init__(path, arrays, lengths, metadata, seeds)

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        where = f"{self.path}: {array.name} of episode {episode}"
        rows = read_dataset(where, self._episodes[episode][array.name], start, stop)
        if array.name in self._pictures:
            return np.stack([decode_picture(where, bytes(row)) for row in rows])
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _group(self, path: Path, name: str) -> h5py.Group:
        group = child_group(self._file, name)
        if group is None:
            raise StoreError(f"{path}: expected a group {name}, found none in this file.")
        return group

    def _layout(self, where: str, episode: h5py.Group, images: set[str]) -> Layout:
        """Type and row shape of every array of an episode, and its length."""
        arrays = dict(datasets_below(episode, where))
        if "rewards" not in arrays or len(arrays["rewards"].shape) != 1:
            raise StoreError(f"{where}: expected rewards of shape (steps,), found none.")
        length = int(arrays["rewards"].shape[0])
        found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for name, dataset in arrays.items():
            if len(dataset.shape or ()) < 1 or dataset.shape[0] not in (length, length + 1):
                self._notes.append(f"{name} was not kept: it has not one row a step.")
                continue
            if name in images and (dataset.dtype.kind == "O" or len(dataset.shape) == 2):
                first = bytes(read_dataset(where, dataset, 0, 1)[0])
                found[name] = (np.dtype(np.uint8), (*picture_size(f"{where}/{name}", first), 3))
                self._pictures.add(name)
            elif dataset.dtype.kind in "OSU":
                self._notes.append(f"{name} was not kept: a store holds numbers, not texts.")
            else:
                check_dataset(f"{where}/{name}", dataset)
                found[name] = (np.dtype(dataset.dtype), tuple(dataset.shape[1:]))
        return found, length

    def _seeds_found(self) -> NDArray[np.int64]:
        seeds = no_seeds(len(self._episodes))
        for i, episode in enumerate(self._episodes):
            seed = episode.attrs.get("seed")
            if isinstance(seed, (int, np.integer)) and 0 <= int(seed) < 2**63:
                seeds[i] = int(seed)
        return seeds


def write_minari(
    source: EpisodeSource, out: Path, fps: float | None = None, *, jpeg: bool = False
) -> Written:
    """Write episodes as a Minari data set; an episode is held in memory meanwhile.

    Args:
        source: Episodes to write.
        out: A path where nothing is.
        fps: Not needed.
        jpeg: Write images of 32x32 pixels and more as JPEG, as Minari does it (Pillow's quality
            75); else every array is kept bit by bit, images unpacked.

    Raises:
        MissingExtraError: If minari or h5py is not installed.
        OSError: If the disk refuses.
    """
    need("h5py"), need("minari")
    from minari.dataset.minari_storage import MinariStorage, is_image_space

    places = _places(source)
    record = SourceRecord.of(source.metadata)
    extras = record.extras if record is not None and record.format == NAME else {}
    (out / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        out / "data", *_spaces(places), data_format="hdf5", jpeg_encoding=jpeg
    )
    storage.update_episodes(_buffers(source, places))
    file = out / "data" / "metadata.json"
    about = json.loads(file.read_text())
    about |= {
        "dataset_id": extras.get("dataset_id", "spie-robo/converted-v0"),
        "minari_version": _minari_version(),
        **{name: extras[name] for name in _KEPT if name in extras},
        PASSENGER: {**pack(source), "arrays": [place.to_json() for place in places.values()]},
    }
    file.write_text(json.dumps(about))
    encoded = [
        key
        for key, place in places.items()
        if jpeg and place.name.startswith(_OBSERVATIONS) and is_image_space(_box(place))
    ]
    lossy = dict.fromkeys(encoded, f"JPEG, quality {JPEG_QUALITY}")
    return Written(lossy, {}, _written_notes(places))


def _written_notes(places: Mapping[str, ForeignArray]) -> tuple[str, ...]:
    notes = ["the last observation of each episode repeats the one before"]
    groups = {place.name.partition("/")[0] for place in places.values()}
    lacking = [name for name in ("actions", "rewards") if name not in groups]
    if lacking:
        names = ", ".join(lacking)
        notes.append(f"{names}: the episodes have none, zeros stand there, which are not read back")
    return tuple(notes)


def _buffers(source: EpisodeSource, places: Mapping[str, ForeignArray]) -> Iterator[Any]:
    """Each episode as Minari's buffer."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    for episode in range(len(source)):
        length = source.episode_length(episode)
        columns = source.read_rows(episode, 0, length)
        named = {places[key].name: rows for key, rows in columns.items()}
        solved = bool(columns.get("success", np.zeros(1, np.bool_))[-1].any())
        last = np.arange(length) == length - 1
        nested: dict[str, Any] = {"observations": {}}
        for name, rows in named.items():
            group, _, rest = name.partition("/")
            if rest:
                again = np.concatenate([rows, rows[-1:]]) if group != "actions" else rows
                _put(nested.setdefault(group, {}), rest, again)
            elif group == "observations":
                nested[group] = np.concatenate([rows, rows[-1:]])
            else:
                nested[group] = rows
        seed = int(source.seeds[episode])
        yield EpisodeBuffer(
            id=episode,
            seed=None if seed < 0 else seed,
            observations=nested["observations"],
            actions=nested.get("actions", np.zeros((length, 0), np.float32)),
            rewards=nested.get("rewards", np.zeros(length, np.float32)),
            terminations=nested.get("terminations", last & solved),
            truncations=nested.get("truncations", last & (not solved)),
            infos=nested.get("infos", {}),
        )


def _put(group: dict[str, Any], name: str, rows: NDArray[Any]) -> None:
    head, _, rest = name.partition("/")
    if rest:
        _put(group.setdefault(head, {}), rest, rows)
    else:
        group[head] = rows


def _places(source: EpisodeSource) -> dict[str, ForeignArray]:
    """Minari's name for every key: where it was read, or a key of the observation."""
    known = arrays_for(source, NAME)
    places = {}
    for key, rows in source.read_rows(0, 0, 1).items():
        alone = any(place.name == "observations" for place in known.values())
        name = known[key].name if key in known else _TOP.get(key, _OBSERVATIONS + key)
        if alone and key not in known and name.startswith(_OBSERVATIONS):
            name = f"infos/{key}"  # its observation is one array: there is no place beside it
        places[key] = ForeignArray(key, name, rows.dtype.name, rows.shape[1:])
    return places


def _spaces(places: Mapping[str, ForeignArray]) -> tuple[Any, Any]:
    """Gymnasium spaces of the observations and the actions."""
    import gymnasium

    tree: dict[str, Any] = {}
    for place in places.values():
        _put(tree, place.name, _box(place))
    observation = _as_space(tree.get("observations", {}))
    empty = gymnasium.spaces.Box(-1, 1, (0,), np.float32)
    return observation, _as_space(tree["actions"]) if "actions" in tree else empty


def _as_space(tree: Any) -> Any:
    import gymnasium

    if isinstance(tree, dict):
        return gymnasium.spaces.Dict({name: _as_space(item) for name, item in tree.items()})
    return tree


def _box(place: ForeignArray) -> Any:
    import gymnasium

    dtype = np.dtype(place.dtype)
    if dtype.kind == "b":
        return gymnasium.spaces.MultiBinary(place.shape or 1)
    info = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (-np.inf, np.inf) if info is None else (info.min, info.max)
    return gymnasium.spaces.Box(low, high, place.shape, dtype.type)


def _renamed(found: Mapping[str, Any]) -> dict[str, str]:
    """Fixed names, and those of observations without their group."""
    fixed = {name: key for key, name in _TOP.items()} | {"observations": "state"}
    return {
        name: fixed.get(name, name.removeprefix(_OBSERVATIONS))
        for name in found
        if name in fixed or name.startswith(_OBSERVATIONS)
    }


def _image_names(about: Mapping[str, Any]) -> Iterator[str]:
    """Names of the observations that may be JPEG: boxes of uint8 with three axes."""
    if not about.get("jpeg_encoding", True):
        return
    space = about.get("observation_space")
    try:
        waiting = [("observations", json.loads(space) if isinstance(space, str) else space)]
    except ValueError:
        return
    while waiting:
        name, item = waiting.pop()
        if not isinstance(item, Mapping):
            continue
        subspaces = item.get("subspaces")
        if isinstance(subspaces, Mapping):
            waiting += [(f"{name}/{key}", inner) for key, inner in subspaces.items()]
        elif isinstance(subspaces, list):
            waiting += [(f"{name}/_index_{i}", inner) for i, inner in enumerate(subspaces)]
        elif item.get("dtype") == "uint8" and len(item.get("shape", ())) == 3:
            yield name


def _told_places(about: Mapping[str, Any], path: Path) -> tuple[ForeignArray, ...]:
    try:
        return tuple(ForeignArray.from_json(item) for item in about[PASSENGER]["arrays"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: the metadata of spie_robo in it is damaged.") from error


def _read_metadata(path: Path) -> dict[str, Any]:
    file = limits.check_inside(path, minari_folder(path) / "metadata.json")
    limits.check_size(str(file), file.stat().st_size, limits.MAX_HEADER_BYTES)
    try:
        about = json.loads(file.read_bytes())
    except ValueError as error:
        raise StoreError(f"{file}: it is not JSON ({error}).") from error
    if not isinstance(about, dict):
        raise StoreError(f"{file}: expected a JSON object, got {type(about).__name__}.")
    return about


def _env_id(about: Mapping[str, Any]) -> str:
    try:
        spec = json.loads(about.get("env_spec") or "{}")
        return str(spec.get("id", ""))
    except (ValueError, TypeError, AttributeError):
        return ""


def _minari_version() -> str:
    from importlib.metadata import version

    return version("minari")
