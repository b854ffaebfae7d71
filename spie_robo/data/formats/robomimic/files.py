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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.foreign_source import ForeignSource
from spie_robo.data.formats.hdf5_files import (
    Layout,
    check_dataset,
    child_group,
    common_layout,
    datasets_below,
    open_hdf5,
    read_dataset,
    read_texts,
)
from spie_robo.data.formats.naming import ForeignArray, map_arrays
from spie_robo.data.formats.robomimic.demos import pack_demos, unpack_demos
from spie_robo.data.formats.source_record import (
    PASSENGER,
    TASK_KEY,
    SourceRecord,
    no_seeds,
    plain,
    unpack,
    with_source,
    with_tasks,
)
from spie_robo.data.formats.task_texts import (
    Instructions,
    missing_note,
    number_instructions,
)
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import StoreError

if TYPE_CHECKING:
    import h5py

NAME = "robomimic"

PLACES = "spie_robo_arrays"
"""Attribute of ``data``: the place of every array of a file that was written here."""

EPISODE = "spie_robo_episode"
"""Attribute of a demo: which episode it was when it was written here, whatever it is called now."""

_RENAMED = {"actions": "action", "rewards": "reward", "dones": "dones"}
_LANGUAGE = ("lang", "language", "language_instruction")
_MADE = ("num_samples", "ep_meta", EPISODE)
"""Attributes that the writer gives to a demo that has none of them."""


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
        layouts, notes = _layouts(self._demos, names, path)
        found, lengths, differ = common_layout(path, names, layouts, ("actions",))
        language = number_instructions(_language(self._file, self._demos), lengths)
        numbers = _numbers(self._demos)
        travelled = unpack(_json_attribute(data, PASSENGER), len(names), str(path), numbers)
        known: tuple[ForeignArray, ...] = ()
        if travelled is not None:
            known = _told_places(data, path)
            made = _made_up({place.name for place in known})
            found = {name: array for name, array in found.items() if name not in made}
            language = self._changed(language, found, known, travelled[0])
        arrays = map_arrays(found, known, _renamed(found), ours=travelled is not None)
        if language is not None:
            arrays = (
                *(array for array in arrays if array.key != TASK_KEY),
                ForeignArray(TASK_KEY, TASK_KEY, "int64", ()),
            )
        self._language = language
        notes = (*notes, *differ, *(missing_note(language) if language else ()))
        if travelled is not None:
            metadata, seeds = travelled
            metadata = _still_there(metadata, self._file, self._demos)
            metadata = with_tasks(metadata, NAME, language.tasks if language else None)
        else:
            tasks = language.tasks if language else ()
            record = _describe(self._file, self._demos, arrays, tasks, notes)
            metadata, seeds = with_source(StoreMetadata(), record), no_seeds(len(names))
        super().__init__(path, arrays, lengths, _noting(metadata, empty), seeds)

    def _changed(
        self,
        language: Instructions | None,
        found: Mapping[str, Any],
        known: Sequence[ForeignArray],
        metadata: StoreMetadata,
    ) -> Instructions | None:
        """Return the instructions of a file of ours if another tool has changed them; else None."""
        record = SourceRecord.of(metadata)
        place = next((p.name for p in known if p.key == TASK_KEY and p.name in found), None)
        if language is None or record is None or place is None:
            return language if place is None else None
        there = language.first_texts()
        for demo, text in zip(self._demos, there, strict=True):
            number = int(np.asarray(demo[place][:1]).flat[0])
            declared = record.tasks[number] if 0 <= number < len(record.tasks) else ""
            if text != declared:
                return language
        return None

    def _read(self, array: ForeignArray, episode: int, start: int, stop: int) -> NDArray[Any]:
        if array.key == TASK_KEY and self._language is not None:
            return self._language.numbers[episode][start:stop]
        where = f"{self.path}: {array.name} of episode {episode}"
        return read_dataset(where, self._demos[episode][array.name], start, stop)

    def declared_faults(self) -> Iterator[str]:
        """Yield counts and filters that are not those of the demos."""
        lengths = [self.episode_length(i) for i in range(len(self))]
        total = self._file["data"].attrs.get("total")
        if isinstance(total, (int, np.integer)) and int(total) != sum(lengths):
            yield f"data declares total {int(total)}, its demos have {sum(lengths)} steps"
        for demo, length in zip(self._demos, lengths, strict=True):
            declared = demo.attrs.get("num_samples")
            if isinstance(declared, (int, np.integer)) and int(declared) != length:
                yield f"{demo.name} declares num_samples {int(declared)}, its actions have {length}"
        names = {demo.name.rpartition("/")[2] for demo in self._demos}
        mask = child_group(self._file, "mask")
        for name, dataset in () if mask is None else datasets_below(mask, "mask"):
            gone = sorted(set(plain(dataset[()])) - names)
            if gone:
                yield f"mask/{name} names demos that are not there: {', '.join(gone[:3])}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _told_places(data: h5py.Group, path: Path) -> tuple[ForeignArray, ...]:
    try:
        declared = _json_attribute(data, PLACES)
        return tuple(ForeignArray.from_json(place) for place in declared)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: attribute {PLACES} is damaged ({error}).") from error


def _renamed(found: Mapping[str, Any]) -> dict[str, str]:
    """Return fixed names, and those of observations without their group."""
    return {
        name: _RENAMED.get(name, name.removeprefix("obs/"))
        for name in found
        if name in _RENAMED or name.startswith("obs/")
    }


def _made_up(declared: Collection[str]) -> set[str]:
    """Return arrays that only our writer added to a file, since robomimic wants them."""
    return {name for name in ("dones", "actions") if name not in declared}


def _layouts(
    demos: Sequence[h5py.Group], names: Sequence[str], path: Path
) -> tuple[list[Layout], tuple[str, ...]]:
    """Return the arrays and length of every demo, and a note for each array without rows."""
    layouts = []
    left_out: dict[str, str] = {}
    for name, demo in zip(names, demos, strict=True):
        layout, reasons = _layout(demo, f"{path}: data/{name}")
        layouts.append(layout)
        left_out = {**reasons, **left_out}
    return layouts, tuple(f"{name} was not kept: {why}." for name, why in left_out.items())


def _layout(demo: h5py.Group, where: str) -> tuple[Layout, dict[str, str]]:
    """Return type and row shape of each array of a demo, its length, and why others are out."""
    left_out: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    arrays: dict[str, h5py.Dataset] = {}
    for name, dataset in datasets_below(demo, where):
        if not limits.is_numeric(dataset.dtype):
            if name not in _LANGUAGE:
                left_out[name] = "a store holds numbers, not texts"
        elif not dataset.shape:
            left_out[name] = "it is a single number, not one row a step"
        elif name.startswith("next_obs/") and len(dataset.shape) == 4:
            continue  # the frames of obs again, one step later
        else:
            check_dataset(f"{where}/{name}", dataset)
            arrays[name], shapes[name] = dataset, tuple(dataset.shape)
    length = _length(demo, shapes, where)
    found = {}
    for name, dataset in arrays.items():
        if shapes[name][0] == length:
            found[name] = (np.dtype(dataset.dtype), shapes[name][1:])
        else:
            left_out[name] = f"it has {shapes[name][0]} rows, the episode {length} steps"
    return (found, length), left_out


def _length(demo: h5py.Group, shapes: Mapping[str, tuple[int, ...]], where: str) -> int:
    """Return steps of a demo: rows of ``actions``, else ``num_samples``, else of most arrays.

    Raises:
        StoreError: If it has no array.
    """
    if "actions" in shapes:
        return shapes["actions"][0]
    lengths = [shape[0] for shape in shapes.values()]
    if not lengths:
        raise StoreError(f"{where}: expected arrays of one row a step, found none.")
    declared = demo.attrs.get("num_samples")
    if isinstance(declared, (int, np.integer)) and int(declared) in lengths:
        return int(declared)
    return max(lengths, key=lambda n: (lengths.count(n), n))


def _language(file: h5py.File, demos: Sequence[h5py.Group]) -> list[tuple[str, ...]]:
    """Return the instruction of each demo.

    Robomimic and robocasa keep it in ``ep_meta``, others in an attribute or an array of texts,
    LIBERO in the file's ``problem_info``, for all demos.
    """
    whole = _text_in(_json_attribute(file["data"], "problem_info", strict=False))
    return [_language_of(demo) or whole for demo in demos]


def _language_of(demo: h5py.Group) -> tuple[str, ...]:
    about = _text_in(_json_attribute(demo, "ep_meta", strict=False)) or _text_in(
        {name: plain(demo.attrs[name]) for name in _LANGUAGE if name in demo.attrs}
    )
    if about:
        return about
    for name, dataset in datasets_below(demo, demo.name):
        if name in _LANGUAGE and not limits.is_numeric(dataset.dtype):
            return read_texts(f"{demo.name}/{name}", dataset)
    return ()


def _text_in(about: object) -> tuple[str, ...]:
    """Return the instruction among named values; LIBERO's may be quoted."""
    values = about if isinstance(about, Mapping) else {}
    found = [values[key] for key in _LANGUAGE if isinstance(values.get(key), str)]
    texts = [text.strip().strip('"').strip() for text in found]
    return tuple(text for text in texts if text)[:1]


def _describe(
    file: h5py.File,
    demos: list[h5py.Group],
    arrays: tuple[ForeignArray, ...],
    tasks: tuple[str, ...],
    notes: Sequence[str],
) -> SourceRecord:
    said = list(notes)
    if any("next_obs" in demo for demo in demos):
        said.append("Images of next_obs were not kept: they are those of obs, one step later.")
    about, left_out = _of_demos(file, demos)
    extras = {"attributes": plain(dict(file["data"].attrs)), **about}
    return SourceRecord(NAME, arrays, tasks, notes=(*said, *left_out), extras=extras)


def _has_no_steps(demo: h5py.Group) -> bool:
    """Return whether a demo was begun and left without a step."""
    actions = demo.get("actions")
    if actions is None:
        return len(demo) == 0
    return tuple(getattr(actions, "shape", ())[:1]) == (0,)


def _noting(metadata: StoreMetadata, empty: list[str]) -> StoreMetadata:
    """Return metadata that notes the demos without steps, which are left out."""
    record = SourceRecord.of(metadata)
    if not empty or record is None:
        return metadata
    named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
    note = f"{len(empty)} of the demos have no steps and were left out ({named})."
    return with_source(metadata, replace(record, notes=(*record.notes, note)))


def _of_demos(file: h5py.File, demos: list[h5py.Group]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what the file says of each demo beside its arrays, and notes on what is lost."""
    packed, notes = pack_demos(
        [plain({n: v for n, v in demo.attrs.items() if n != EPISODE}) for demo in demos]
    )
    extras: dict[str, Any] = {
        "demos": packed,
        "names": [demo.name.rpartition("/")[2] for demo in demos],
    }
    mask = child_group(file, "mask")
    if mask is not None:
        extras["mask"] = {n: plain(d[()]) for n, d in datasets_below(mask, "mask")}
    return extras, notes


def _numbers(demos: list[h5py.Group]) -> list[int]:
    """Return the episode that each demo was when written here; -1 if it was added since."""
    declared = [demo.attrs.get(EPISODE) for demo in demos]
    if all(number is None for number in declared):  # of a release that had only the name
        return [_natural(demo.name)[0] for demo in demos]
    return [int(number) if isinstance(number, np.integer) else -1 for number in declared]


def _still_there(
    metadata: StoreMetadata, file: h5py.File, demos: list[h5py.Group]
) -> StoreMetadata:
    """Return the stored metadata, with what the file itself says where that has changed."""
    record = SourceRecord.of(metadata)
    if record is None or record.format != NAME:
        return metadata
    about, notes = _of_demos(file, demos)
    attributes = plain(dict(file["data"].attrs))
    attributes = {n: v for n, v in attributes.items() if n not in (PASSENGER, PLACES)}
    if _as_written(record, about, attributes):
        return metadata
    extras = {**record.extras, "mask": {}, **about, "attributes": attributes}
    return with_source(metadata, replace(record, notes=(*record.notes, *notes), extras=extras))


def _as_written(
    record: SourceRecord, about: Mapping[str, Any], attributes: Mapping[str, Any]
) -> bool:
    """Return whether a file says what the writer wrote for ``record``, beside what it adds."""
    declared = record.extras.get("attributes", {})
    made = {"total"} | ({"env_args"} - set(declared))
    if {n: v for n, v in attributes.items() if n not in made} != {
        n: v for n, v in declared.items() if n not in made
    }:
        return False
    masks = {n: renumbered(of, record.extras) for n, of in record.extras.get("mask", {}).items()}
    here = unpack_demos(about["demos"])
    if masks != about.get("mask", {}) or about["names"] != [f"demo_{i}" for i in range(len(here))]:
        return False
    told_demos = unpack_demos(record.extras.get("demos", []))
    told_demos += [{} for _ in range(len(here) - len(told_demos))]
    return len(here) == len(told_demos) and all(
        {n: v for n, v in found.items() if n in then or n not in _MADE} == then
        for found, then in zip(here, told_demos, strict=True)
    )


def renumbered(demos: Sequence[str], extras: Mapping[str, Any]) -> list[str]:
    """Return the demos of a filter by their names in the new file, which counts from 0."""
    known = extras.get("names")
    if known is None:  # of a store from before names were kept
        return list(demos)
    places = {name: f"demo_{number}" for number, name in enumerate(known)}
    return [places[name] for name in demos if name in places]


def _json_attribute(group: h5py.Group, name: str, *, strict: bool = True) -> Any:
    """Return JSON from an attribute; None if there is none, or if not ``strict`` and no JSON."""
    value = group.attrs.get(name)
    if value is None or not (strict or isinstance(value, (str, bytes))):
        return None
    limits.check_size(f"attribute {name}", len(value), limits.MAX_HEADER_BYTES)
    try:
        return json.loads(value)
    except ValueError as error:
        if not strict:
            return None
        raise StoreError(f"Attribute {name}: it is not JSON ({error}).") from error


def _require_group(data: h5py.Group, name: str, path: Path) -> h5py.Group:
    group = child_group(data, name)
    if group is None:
        raise StoreError(f"{path}: data/{name}: expected a group in this file, found a link.")
    return group


def _natural(name: str) -> tuple[int, str]:
    """Demos by their number: demo_10 comes after demo_9."""
    digits = re.findall(r"\d+", name)
    return (int(digits[-1]) if digits else -1, name)
