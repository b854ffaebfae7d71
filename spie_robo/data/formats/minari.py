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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.detect import minari_folder
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.hdf5_files import (
    ROOM_TO_CLOSE,
    Layout,
    check_dataset,
    child_group,
    common_layout,
    datasets_below,
    open_hdf5,
    read_dataset,
    read_texts,
)
from spie_robo.data.formats.minari_spaces import (
    IMAGE_SIDE,
    as_space,
    compact,
    image_leaves,
    leaves_of,
    nested,
    space_of,
)
from spie_robo.data.formats.naming import ForeignArray, map_arrays
from spie_robo.data.formats.pictures import decode_grey, decode_picture, picture_size
from spie_robo.data.formats.source_record import (
    LOSSY,
    PASSENGER,
    TASK_KEY,
    SourceRecord,
    arrays_for,
    no_seeds,
    pack,
    plain,
    unpack,
    with_source,
    with_tasks,
)
from spie_robo.data.formats.task_texts import missing_note, number_instructions
from spie_robo.data.formats.written import Written
from spie_robo.data.look_provenance import PROVENANCE_COLUMNS
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.fields import raw_key, rgb_key
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError
from spie_robo.files.staged import require_room

if TYPE_CHECKING:
    import h5py

NAME = "minari"
JPEG_QUALITY = 75
"""Pillow's default, which Minari leaves as it is."""

_ENDS = ("terminations", "truncations")
_TOP = {"action": "actions", "reward": "rewards", **{name: name for name in _ENDS}}
_WANTED = ("actions", "rewards", *_ENDS)
"""Arrays of every episode of Minari; write_minari() makes them where the episodes have none."""

_OBSERVATIONS = "observations/"
_KEPT = ("dataset_id", "env_spec", "algorithm_name", "author", "code_permalink", "description")
_NEW_ID = "spie-robo/converted-v0"
_NOTE = "The last observation of each episode, in which nothing was done, was not kept."
_MISSIONS = ("mission", "instruction", "language_instruction", "language", "task", "lang")
"""Last part of the names of texts that are the instruction; MiniGrid's is the first."""


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
        self._texts: list[tuple[str, ...]] = []
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
        leaves = leaves_of(about)
        images = dict(image_leaves(leaves)) if about.get("jpeg_encoding", True) else {}
        layouts = [
            self._layout(f"{path}: {name}", group, images)
            for name, group in zip(names, self._episodes, strict=True)
        ]
        found, lengths, differ = common_layout(path, names, layouts, ("actions", "rewards"))
        self._notes += differ
        travelled = unpack(about.get(PASSENGER), count, str(path))
        known: tuple[ForeignArray, ...] = ()
        if travelled is not None:
            known = _told_places(about, path)
            declared = {place.name: np.dtype(place.dtype) for place in known}
            found = {n: a for n, a in found.items() if n in declared or n not in _WANTED}
            found = {n: (declared.get(n, dtype), shape) for n, (dtype, shape) in found.items()}
        arrays = map_arrays(found, known, _renamed(found), ours=travelled is not None)
        self._instructions = number_instructions(self._texts, lengths)
        if self._instructions is not None:
            self._notes += missing_note(self._instructions)
            arrays = (
                *(array for array in arrays if array.key != TASK_KEY),
                ForeignArray(TASK_KEY, TASK_KEY, "int64", ()),
            )
        metadata = self._metadata_found(about, arrays, leaves, travelled)
        super().__init__(path, arrays, lengths, metadata, self._seeds_found())

    def _metadata_found(
        self,
        about: Mapping[str, Any],
        arrays: tuple[ForeignArray, ...],
        leaves: Mapping[str, Any],
        travelled: tuple[StoreMetadata, NDArray[np.int64]] | None,
    ) -> StoreMetadata:
        """Return the metadata; the data set's own files win over the stored record."""
        tasks = None if self._instructions is None else self._instructions.tasks
        if travelled is not None:
            metadata = with_tasks(travelled[0], NAME, tasks)
            record = SourceRecord.of(metadata)
            if record is None or record.format != NAME:
                return metadata
            then = {"dataset_id": _NEW_ID, **record.extras}
            changed = {n: plain(about[n]) for n in _KEPT if n in about and about[n] != then.get(n)}
            if not changed:
                return metadata
            return with_source(metadata, replace(record, extras={**record.extras, **changed}))
        lossy = {a.key: "JPEG, as Minari keeps it" for a in arrays if a.name in self._pictures}
        extras = {name: plain(about[name]) for name in _KEPT if name in about}
        extras |= {"spaces": compact(leaves)} | ({LOSSY: lossy} if lossy else {})
        notes = tuple(dict.fromkeys(self._notes)) + tuple(
            f"{key} was read from JPEG, as Minari keeps it: its values are not exact"
            + ("." if key.endswith(rgb_key("")) else ", and no edit is judged by it.")
            for key in lossy
        )
        record = SourceRecord(NAME, arrays, tasks or (), notes=notes, extras=extras)
        return with_source(StoreMetadata(env_id=_env_id(about)), record)

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        if array.key == TASK_KEY and self._instructions is not None:
            return self._instructions.numbers[episode][start:stop]
        where = f"{self.path}: {array.name} of episode {episode}"
        rows = read_dataset(where, self._episodes[episode][array.name], start, stop)
        if array.name in self._pictures:
            decode = decode_grey if len(array.shape) == 2 else decode_picture
            return np.stack([decode(where, bytes(row)) for row in rows])
        return rows.astype(array.dtype, copy=False)

    def declared_faults(self) -> Iterator[str]:
        """Yield counts that are not those of the episodes."""
        about = _read_metadata(self.path)
        steps = about.get("total_steps")
        if isinstance(steps, (int, float)) and steps != self.n_steps:
            yield f"metadata.json declares total_steps {steps:g}, there are {self.n_steps}"
        groups = [name for name in self._file if str(name).startswith("episode_")]
        if len(groups) > len(self):
            yield (
                f"metadata.json declares {len(self)} episodes, {len(groups)} are in the file: the "
                "others are not read"
            )
        for i, episode in enumerate(self._episodes):
            declared = episode.attrs.get("total_steps")
            if isinstance(declared, (int, np.integer)) and int(declared) != self.episode_length(i):
                there = self.episode_length(i)
                yield (
                    f"{episode.name[1:]} declares total_steps {int(declared)}, "
                    f"it has {there} rewards"
                )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _group(self, path: Path, name: str) -> h5py.Group:
        group = child_group(self._file, name)
        if group is None:
            raise StoreError(f"{path}: expected a group {name}, found none in this file.")
        return group

    def _layout(self, where: str, episode: h5py.Group, images: Mapping[str, bool]) -> Layout:
        """Return type and row shape of every array of an episode, and its length."""
        arrays = dict(datasets_below(episode, where))
        if "rewards" not in arrays or len(arrays["rewards"].shape) != 1:
            raise StoreError(f"{where}: expected rewards of shape (steps,), found none.")
        length = int(arrays["rewards"].shape[0])
        found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        texts: tuple[str, ...] = ()
        for name, dataset in arrays.items():
            packed = name in images and len(dataset.shape or ()) <= 2
            mission = name.rpartition("/")[2] in _MISSIONS
            if len(dataset.shape or ()) < 1 or dataset.shape[0] not in (length, length + 1):
                self._notes.append(f"{name} was not kept: it has not one row a step.")
            elif packed:
                first = bytes(read_dataset(where, dataset, 0, 1)[0])
                colours = () if images[name] else (3,)
                shape = (*picture_size(f"{where}/{name}", first), *colours)
                found[name] = (np.dtype(np.uint8), shape)
                self._pictures.add(name)
            elif limits.is_numeric(dataset.dtype):
                check_dataset(f"{where}/{name}", dataset)
                found[name] = (np.dtype(dataset.dtype), tuple(dataset.shape[1:]))
            elif mission and not texts:
                texts = read_texts(f"{where}/{name}", dataset)
            else:
                self._notes.append(f"{name} was not kept: a store holds numbers, not texts.")
        self._texts.append(texts)
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
        out: Folder to make.
        fps: Not needed.
        jpeg: Keep the frames of cameras as JPEG; nothing else, since labels must come back exact.

    Raises:
        MissingExtraError: If minari is not installed.
        OSError: If the disk refuses, or is nearly full.
    """
    need("h5py"), need("minari")
    from minari.dataset.minari_storage import MinariStorage

    places = _places(source)
    stored = {key: _stored(place, jpeg) for key, place in places.items()}
    record = SourceRecord.of(source.metadata)
    extras = record.extras if record is not None and record.format == NAME else {}
    kept = extras.get("spaces", {})
    (out / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        out / "data", *_spaces(stored, kept), data_format="hdf5", jpeg_encoding=jpeg
    )
    for size, buffer in _buffers(source, stored, kept):
        require_room(out, size + ROOM_TO_CLOSE)  # HDF5 ends the process on a full disk
        storage.update_episodes([buffer])
    file = out / "data" / "metadata.json"
    about = json.loads(file.read_text())
    about |= {
        "dataset_id": extras.get("dataset_id", _NEW_ID),
        "minari_version": _minari_version(),
        **{name: extras[name] for name in _KEPT if name in extras},
        PASSENGER: {**pack(source), "arrays": [place.to_json() for place in places.values()]},
    }
    file.write_text(json.dumps(about))
    encoded = [key for key, place in places.items() if jpeg and _is_picture(place)]
    lossy = dict.fromkeys(encoded, f"JPEG, quality {JPEG_QUALITY}")
    return Written(lossy, {}, _written_notes(places))


def _stored(place: ForeignArray, jpeg: bool) -> ForeignArray:
    """Return the array with the type in which its numbers are kept.

    Minari packs every array of uint8 that looks like an image, labels too: where it packs, those
    that are no camera are kept as int16, so that they come back exact.
    """
    if jpeg and place.dtype == "uint8" and not _is_picture(place):
        return replace(place, dtype="int16")
    return place


def _is_picture(place: ForeignArray) -> bool:
    """Return whether Minari packs an array as JPEG when it packs images."""
    sides = place.shape[:2]
    named = place.key.endswith((rgb_key(""), raw_key("")))
    observed = place.name.startswith(_OBSERVATIONS)
    return named and observed and place.dtype == "uint8" and min(sides, default=0) >= IMAGE_SIDE


def _written_notes(places: Mapping[str, ForeignArray]) -> tuple[str, ...]:
    notes = ["the last observation of each episode repeats the one before"]
    groups = {place.name.partition("/")[0] for place in places.values()}
    lacking = [name for name in ("actions", "rewards") if name not in groups]
    if lacking:
        names = ", ".join(lacking)
        notes.append(f"{names}: the episodes have none, zeros stand there, which are not read back")
    return tuple(notes)


def _buffers(
    source: EpisodeSource, places: Mapping[str, ForeignArray], kept: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Yield the size of each episode, and the episode as Minari's buffer."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    for episode in range(len(source)):
        length = source.episode_length(episode)
        columns = source.read_rows(episode, 0, length)
        solved = bool(columns.get("success", np.zeros(1, np.bool_))[-1].any())
        last = np.arange(length) == length - 1
        named = {}
        for key, rows in columns.items():
            place = places[key]
            shaped = place.to_file(rows)
            again = place.name.partition("/")[0] in ("observations", "infos")
            named[place.name] = np.concatenate([shaped, shaped[-1:]]) if again else shaped
        items = nested(named, kept)
        seed = int(source.seeds[episode])
        yield (
            sum(rows.nbytes for rows in named.values()),
            EpisodeBuffer(
                id=episode,
                seed=None if seed < 0 else seed,
                observations=items.get("observations", {}),
                actions=items.get("actions", np.zeros((length, 0), np.float32)),
                rewards=items.get("rewards", np.zeros(length, np.float32)),
                terminations=items.get("terminations", last & solved),
                truncations=items.get("truncations", last & (not solved)),
                infos=items.get("infos", {}),
            ),
        )


def _places(source: EpisodeSource) -> dict[str, ForeignArray]:
    """Return Minari's name for every key: where it was read, or a key of the observation."""
    known = arrays_for(source, NAME)
    alone = any(place.name == "observations" for place in known.values())
    places = {}
    for key, rows in source.read_rows(0, 0, 1).items():
        place = known.get(key)
        if place is None or place.name == TASK_KEY:
            name = _TOP.get(key, _OBSERVATIONS + key)
            if key in PROVENANCE_COLUMNS or (alone and name.startswith(_OBSERVATIONS)):
                name = f"infos/{key}"  # where the observation is one array, there is no place in it
            place = ForeignArray(key, name, rows.dtype.name, rows.shape[1:])
        shaped = place.to_file(rows)
        places[key] = replace(place, dtype=shaped.dtype.name, shape=shaped.shape[1:])
    return places


def _spaces(places: Mapping[str, ForeignArray], kept: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return Gymnasium spaces of the observations and the actions."""
    import gymnasium

    roots = ("observations", "actions")
    inside = [place for place in places.values() if place.name.partition("/")[0] in roots]
    tree = nested({p.name: space_of(p, kept, _is_picture(p)) for p in inside}, kept)
    empty = gymnasium.spaces.Box(-1, 1, (0,), np.float32)
    return as_space(tree.get("observations", {})), as_space(tree.get("actions", empty))


def _renamed(found: Mapping[str, Any]) -> dict[str, str]:
    """Return fixed names, and those of observations without their group."""
    fixed = {name: key for key, name in _TOP.items()} | {"observations": "state"}
    return {
        name: fixed.get(name, name.removeprefix(_OBSERVATIONS))
        for name in found
        if name in fixed or name.startswith(_OBSERVATIONS)
    }


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
