"""robomimic's HDF5 file.

Format: https://robomimic.github.io/docs/datasets/overview.html::

    data                     group; attributes total, env_args (JSON)
    data/demo_<i>            group; attributes num_samples, model_file, ...
    data/demo_<i>/actions    (T, A)
    data/demo_<i>/rewards    (T,)
    data/demo_<i>/dones      (T,)
    data/demo_<i>/states     (T, S)
    data/demo_<i>/obs/<key>  (T, ...)  images as <camera>_image, uint8 (T, H, W, 3)
    data/demo_<i>/next_obs   the same, one step later
    mask/<name>              names of demos: a split
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
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
from spie_robo.data.formats.robomimic.demos import pack_demos, unpack_demos
from spie_robo.data.formats.source_record import (
    PASSENGER,
    TASK_KEY,
    SourceRecord,
    arrays_for,
    no_seeds,
    pack,
    plain,
    tasks_of,
    unpack,
    with_source,
)
from spie_robo.data.formats.written import Written
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

if TYPE_CHECKING:
    import h5py

NAME = "robomimic"

_PLACES = "spie_robo_arrays"

_EPISODE = "spie_robo_episode"
"""Attribute of a demo: which episode it was when it was written here, whatever it is called now."""

_RENAMED = {"actions": "action", "rewards": "reward", "dones": "dones"}
_TOP = {"action": "actions", "reward": "rewards", "dones": "dones", "states": "states"}
_BESIDE = ("success", "timestamp", TASK_KEY)
_BLOCK_ROWS = 256
_LANGUAGE = ("lang", "language", "language_instruction")


@final
class RobomimicSource(ForeignSource):
    """Reads a robomimic file; see the module for its layout."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``.

        Raises:
            StoreError: If it is damaged, asks for too much, or its demos have different arrays.
            MissingExtraError: If h5py is not installed.
        """
        self._file = open_hdf5(path)
        try:
            self._open(path)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path) -> None:
        data = child_group(self._file, "data")
        names = [] if data is None else [name for name in data if name.startswith("demo")]
        names.sort(key=_natural)
        if data is None or not names:
            raise StoreError(f"{path}: expected groups data/demo_*, found none.")
        groups = {name: _require_group(data, name, path) for name in names}
        empty = [name for name, demo in groups.items() if _has_no_steps(demo)]
        names = [name for name in names if name not in empty]
        if not names:
            raise StoreError(
                f"{path}: expected demos of one step or more, all {len(empty)} have none."
            )
        self._demos = [groups[name] for name in names]
        layouts = [
            _layout(demo, f"{path}: data/{name}")
            for name, demo in zip(names, self._demos, strict=True)
        ]
        found, lengths = same_layout(path, names, layouts)
        numbers = _numbers(self._demos)
        travelled = unpack(_json_attribute(data, PASSENGER), len(names), str(path), numbers)
        known: tuple[ForeignArray, ...] = ()
        if travelled is not None:
            known = _told_places(data, path)
            if all(place.name != "dones" for place in known):
                found.pop("dones", None)  # made up by write_robomimic(), since robomimic wants it
        arrays = map_arrays(found, known, _renamed(found), ours=travelled is not None)
        tasks, self._task_numbers = ((), None) if travelled else _language(self._demos)
        if self._task_numbers is not None:
            arrays = (*arrays, ForeignArray(TASK_KEY, TASK_KEY, "int64", ()))
        if travelled is not None:
            about = _still_there(travelled[0], self._file, self._demos, numbers)
            travelled = about, travelled[1]
        metadata, seeds = travelled or (
            with_source(StoreMetadata(), _describe(self._file, self._demos, arrays, tasks)),
            no_seeds(len(names)),
        )
        super().__init__(path, arrays, lengths, _noting(metadata, empty), seeds)

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        if array.key == TASK_KEY and self._task_numbers is not None:
            return np.full(stop - start, self._task_numbers[episode], np.int64)
        where = f"{self.path}: {array.name} of episode {episode}"
        return read_dataset(where, self._demos[episode][array.name], start, stop)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_robomimic(source: EpisodeSource, out: Path, fps: float | None = None) -> Written:
    """Write episodes as a robomimic file; every array bit by bit.

    Raises:
        MissingExtraError: If h5py is not installed.
        OSError: If the disk refuses.
    """
    h5py = need("h5py")
    places = _places(source)
    record = SourceRecord.of(source.metadata)
    extras = record.extras if record is not None and record.format == NAME else {}
    demos = unpack_demos(extras.get("demos", []))
    with h5py.File(out, "w", libver="latest", track_order=True) as file:
        data = file.create_group("data")
        _set_attributes(data, extras.get("attributes", {}))
        total = sum(source.episode_length(i) for i in range(len(source)))
        data.attrs["total"] = total
        if "env_args" not in data.attrs:
            data.attrs["env_args"] = json.dumps(
                {"env_name": source.metadata.env_id, "type": 2, "env_kwargs": {}}
            )
        data.attrs[_PLACES] = json.dumps([p.to_json() for p in places.values()])
        data.attrs[PASSENGER] = json.dumps(pack(source))
        for episode in range(len(source)):
            kept = demos[episode] if episode < len(demos) else {}
            _write_demo(source, episode, data.create_group(f"demo_{episode}"), places, kept)
        for name, demos in extras.get("mask", {}).items():
            file[f"mask/{name}"] = np.array(_renumbered(demos, extras), dtype="S")
    return Written({}, {})


def _renumbered(demos: Sequence[str], extras: Mapping[str, Any]) -> list[str]:
    """The demos of a filter by the names that they have in the new file, which counts from 0."""
    known = extras.get("names")
    if known is None:  # of a store from before names were kept
        return list(demos)
    places = {name: f"demo_{number}" for number, name in enumerate(known)}
    return [places[name] for name in demos if name in places]


def _write_demo(
    source: EpisodeSource,
    episode: int,
    demo: h5py.Group,
    places: Mapping[str, ForeignArray],
    kept: Mapping[str, Any],
) -> None:
    length = source.episode_length(episode)
    _set_attributes(demo, kept)
    demo.attrs["num_samples"] = length
    demo.attrs[_EPISODE] = episode
    tasks = tasks_of(source)
    if tasks and TASK_KEY in source.keys and "ep_meta" not in demo.attrs:
        number = int(source.read_rows(episode, 0, 1, [TASK_KEY])[TASK_KEY][0])
        if 0 <= number < len(tasks):
            demo.attrs["ep_meta"] = json.dumps({"lang": tasks[number]})
    if "dones" not in source.keys:
        done = np.arange(length) == length - 1
        demo.create_dataset("dones", data=done.astype(np.int64))
    for start in range(0, length, _BLOCK_ROWS):
        stop = min(length, start + _BLOCK_ROWS)
        for key, rows in source.read_rows(episode, start, stop).items():
            place = places[key]
            shaped = place.to_file(rows)
            if start == 0:
                shape = (length, *shaped.shape[1:])
                demo.create_dataset(place.name, shape, shaped.dtype, **_packing(shape))
            demo[place.name][start:stop] = shaped


def _packing(shape: tuple[int, ...]) -> dict[str, Any]:
    """Images are packed one by one: robomimic reads them at random."""
    if len(shape) < 4:
        return {}
    return {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 4}


def _told_places(data: h5py.Group, path: Path) -> tuple[ForeignArray, ...]:
    try:
        told = _json_attribute(data, _PLACES)
        return tuple(ForeignArray.from_json(place) for place in told)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: attribute {_PLACES} is damaged ({error}).") from error


def _places(source: EpisodeSource) -> dict[str, ForeignArray]:
    """The place of every key: where it was read, or robomimic's own name for what it is."""
    known = arrays_for(source, NAME)
    return {
        key: known.get(key) or _place(key, rows) for key, rows in source.read_rows(0, 0, 1).items()
    }


def _place(key: str, rows: NDArray[Any]) -> ForeignArray:
    """Robomimic's own name and shape for a key of a store."""
    dtype, shape = rows.dtype.name, rows.shape[1:]
    if key in _TOP:
        return ForeignArray(key, _TOP[key], dtype, shape)
    if key in _BESIDE or key.startswith("realism_"):
        return ForeignArray(key, key, dtype, shape)
    if key.endswith(fields.rgb_key("")) and dtype == "uint8" and len(shape) == 3:
        name = f"obs/{key.removesuffix(fields.rgb_key(''))}_image"
        return ForeignArray(key, name, dtype, shape, "camera")
    if key.endswith(fields.depth_key("")) and dtype == "float32" and len(shape) == 2:
        return ForeignArray(key, f"obs/{key}", dtype, (*shape, 1), "depth")
    if key.endswith(fields.segmentation_key("")) and dtype == "int32" and len(shape) == 2:
        return ForeignArray(key, f"obs/{key}", dtype, (*shape, 1), "segmentation")
    return ForeignArray(key, f"obs/{key}", dtype, shape)


def _renamed(found: Mapping[str, Any]) -> dict[str, str]:
    """Fixed names, and those of observations without their group."""
    return {
        name: _RENAMED.get(name, name.removeprefix("obs/"))
        for name in found
        if name in _RENAMED or name.startswith("obs/")
    }


def _layout(
    demo: h5py.Group, where: str
) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], int]:
    """Type and row shape of every array of a demo, and its length."""
    found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    lengths = set()
    for name, dataset in datasets_below(demo, where):
        check_dataset(f"{where}/{name}", dataset)
        if name.startswith("next_obs/") and len(dataset.shape) == 4:
            continue  # the frames of obs again, one step later
        found[name] = (np.dtype(dataset.dtype), tuple(dataset.shape[1:]))
        lengths.add(int(dataset.shape[0]))
    if len(lengths) != 1:
        raise StoreError(f"{where}: expected one row a step in every array, got {sorted(lengths)}.")
    return found, lengths.pop()


def _language(demos: list[h5py.Group]) -> tuple[tuple[str, ...], list[int] | None]:
    """The instruction of each demo, which robomimic and robocasa keep in ``ep_meta``."""
    texts = []
    for demo in demos:
        about = _json_attribute(demo, "ep_meta")
        about = about if isinstance(about, dict) else {}
        found = [about[key] for key in _LANGUAGE if isinstance(about.get(key), str)]
        texts.append(found[0] if found else None)
    if any(text is None for text in texts):
        return (), None
    tasks = tuple(dict.fromkeys(str(text) for text in texts))
    return tasks, [tasks.index(str(text)) for text in texts]


def _describe(
    file: h5py.File,
    demos: list[h5py.Group],
    arrays: tuple[ForeignArray, ...],
    tasks: tuple[str, ...],
) -> SourceRecord:
    notes = []
    if any("next_obs" in demo for demo in demos):
        notes.append("Images of next_obs were not kept: they are those of obs, one step later.")
    about, left_out = _of_demos(file, demos)
    notes += left_out
    extras = {"attributes": plain(dict(file["data"].attrs)), **about}
    return SourceRecord(NAME, arrays, tasks, notes=tuple(notes), extras=extras)


def _has_no_steps(demo: h5py.Group) -> bool:
    """Whether a demo was begun and left without a step."""
    actions = demo.get("actions")
    if actions is None:
        return len(demo) == 0
    return tuple(getattr(actions, "shape", ())[:1]) == (0,)


def _noting(metadata: StoreMetadata, empty: list[str]) -> StoreMetadata:
    """Metadata that tells of the demos without steps, which are left out."""
    record = SourceRecord.of(metadata)
    if not empty or record is None:
        return metadata
    named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
    note = f"{len(empty)} of the demos have no steps and were left out ({named})."
    return with_source(metadata, replace(record, notes=(*record.notes, note)))


def _of_demos(file: h5py.File, demos: list[h5py.Group]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the file says of each demo beside its arrays, and notes of what cannot be kept."""
    packed, notes = pack_demos([plain(dict(demo.attrs)) for demo in demos])
    extras: dict[str, Any] = {
        "demos": packed,
        "names": [demo.name.rpartition("/")[2] for demo in demos],
    }
    mask = child_group(file, "mask")
    if mask is not None:
        extras["mask"] = {n: plain(d[()]) for n, d in datasets_below(mask, "mask")}
    return extras, notes


def _numbers(demos: list[h5py.Group]) -> list[int]:
    """Which episode each demo was when it was written here; -1 if it was added since."""
    told = [demo.attrs.get(_EPISODE) for demo in demos]
    if all(number is None for number in told):  # of a release that told it by the name alone
        return [_natural(demo.name)[0] for demo in demos]
    return [int(number) if isinstance(number, np.integer) else -1 for number in told]


def _still_there(
    metadata: StoreMetadata, file: h5py.File, demos: list[h5py.Group], numbers: list[int]
) -> StoreMetadata:
    """Metadata that travelled along, about the demos that are there and not those that were."""
    record = SourceRecord.of(metadata)
    if record is None or record.format != NAME:
        return metadata
    if numbers == list(range(len(record.extras.get("names", ())))):
        return metadata
    about, notes = _of_demos(file, demos)
    extras = {**record.extras, "mask": {}, **about}
    return with_source(metadata, replace(record, notes=(*record.notes, *notes), extras=extras))


def _json_attribute(group: h5py.Group, name: str) -> Any:
    """A JSON text in an attribute; None if there is none."""
    value = group.attrs.get(name)
    if value is None:
        return None
    limits.check_size(f"attribute {name}", len(value), limits.MAX_HEADER_BYTES)
    try:
        return json.loads(value)
    except ValueError as error:
        raise StoreError(f"Attribute {name}: it is not JSON ({error}).") from error


def _set_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name != PASSENGER:
            group.attrs[name] = value


def _require_group(data: h5py.Group, name: str, path: Path) -> h5py.Group:
    group = child_group(data, name)
    if group is None:
        raise StoreError(f"{path}: data/{name}: expected a group in this file, found a link.")
    return group


def _natural(name: str) -> tuple[int, str]:
    """Demos by their number: demo_10 comes after demo_9."""
    digits = re.findall(r"\d+", name)
    return (int(digits[-1]) if digits else -1, name)
