"""Write robomimic's HDF5 file; its layout is described in :mod:`.files`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats.actions import action_parts, joined
from spie_robo.data.formats.extras import need
from spie_robo.data.formats.hdf5_files import watched_hdf5
from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.formats.robomimic.demos import unpack_demos
from spie_robo.data.formats.robomimic.files import EPISODE, NAME, PLACES, renumbered
from spie_robo.data.formats.source_record import (
    PASSENGER,
    TASK_KEY,
    SourceRecord,
    arrays_for,
    pack,
    tasks_of,
)
from spie_robo.data.formats.written import Written
from spie_robo.data.look_provenance import PROVENANCE_COLUMNS
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store import fields

if TYPE_CHECKING:
    import h5py

_TOP = {"action": "actions", "reward": "rewards", "dones": "dones", "states": "states"}
_BESIDE = ("success", "timestamp", TASK_KEY, *PROVENANCE_COLUMNS)
_BLOCK_ROWS = 256


def write_robomimic(source: EpisodeSource, out: Path, fps: float | None = None) -> Written:
    """Write episodes as a robomimic file; every array bit by bit.

    Actions that are several arrays are written as ``action_dict/<part>``, and once more end to end
    as the ``actions`` that robomimic's training reads.

    Raises:
        MissingExtraError: If h5py is not installed.
        OSError: If the disk refuses, or is nearly full.
    """
    need("h5py")
    places = _places(source)
    parts = action_parts(source.keys)
    record = SourceRecord.of(source.metadata)
    extras = record.extras if record is not None and record.format == NAME else {}
    demos = unpack_demos(extras.get("demos", []))
    with watched_hdf5(out) as (file, watch):
        data = file.create_group("data")
        _set_attributes(data, extras.get("attributes", {}))
        total = sum(source.episode_length(i) for i in range(len(source)))
        data.attrs["total"] = total
        if "env_args" not in data.attrs:
            data.attrs["env_args"] = json.dumps(
                {"env_name": source.metadata.env_id, "type": 2, "env_kwargs": {}}
            )
        data.attrs[PLACES] = json.dumps([p.to_json() for p in places.values()])
        passenger = json.dumps(pack(source))
        watch(len(passenger))
        data.attrs[PASSENGER] = passenger
        for episode in range(len(source)):
            kept = demos[episode] if episode < len(demos) else {}
            demo = data.create_group(f"demo_{episode}")
            _describe_demo(source, episode, demo, kept)
            for rows, start in _blocks(source, episode):
                watch(sum(r.nbytes for r in rows.values()))
                if parts:
                    _write(demo, "actions", joined(rows, parts), start, source, episode)
                for key, values in rows.items():
                    shaped = places[key].to_file(values)
                    _write(demo, places[key].name, shaped, start, source, episode)
        for name, demos_of in extras.get("mask", {}).items():
            file[f"mask/{name}"] = np.array(renumbered(demos_of, extras), dtype="S")
    notes = (f"actions: {', '.join(parts)} end to end, in this order",) if parts else ()
    return Written({}, {}, notes)


def _blocks(source: EpisodeSource, episode: int) -> Any:
    """Yield blocks of some hundred rows of an episode, and the step at which each begins."""
    length = source.episode_length(episode)
    for start in range(0, length, _BLOCK_ROWS):
        yield source.read_rows(episode, start, min(length, start + _BLOCK_ROWS)), start


def _write(
    demo: h5py.Group,
    name: str,
    rows: NDArray[Any],
    start: int,
    source: EpisodeSource,
    episode: int,
) -> None:
    """Write a block of rows, making the array with the first."""
    if start == 0:
        shape = (source.episode_length(episode), *rows.shape[1:])
        demo.create_dataset(name, shape, rows.dtype, **_packing(shape))
    demo[name][start : start + len(rows)] = rows


def _describe_demo(
    source: EpisodeSource, episode: int, demo: h5py.Group, kept: Mapping[str, Any]
) -> None:
    """Give a demo its attributes, and the ``dones`` that robomimic wants."""
    length = source.episode_length(episode)
    _set_attributes(demo, kept)
    demo.attrs["num_samples"] = length
    demo.attrs[EPISODE] = episode
    tasks = tasks_of(source)
    if tasks and TASK_KEY in source.keys and "ep_meta" not in demo.attrs:
        number = int(source.read_rows(episode, 0, 1, [TASK_KEY])[TASK_KEY].flat[0])
        if 0 <= number < len(tasks) and tasks[number]:
            demo.attrs["ep_meta"] = json.dumps({"lang": tasks[number]})
    if "dones" not in source.keys:
        done = np.arange(length) == length - 1
        demo.create_dataset("dones", data=done.astype(np.int64))


def _packing(shape: tuple[int, ...]) -> dict[str, Any]:
    """Images are packed one by one: robomimic reads them at random."""
    if len(shape) < 4:
        return {}
    return {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 4}


def _places(source: EpisodeSource) -> dict[str, ForeignArray]:
    """Return the place of every key: where it was read, or robomimic's own name for what it is."""
    known = arrays_for(source, NAME)
    parts = action_parts(source.keys)
    return {
        key: known.get(key) or _place(key, rows, parts)
        for key, rows in source.read_rows(0, 0, 1).items()
    }


def _place(key: str, rows: NDArray[Any], parts: Sequence[str]) -> ForeignArray:
    """Robomimic's own name and shape for a key of a store."""
    dtype, shape = rows.dtype.name, rows.shape[1:]
    if key in _TOP:
        return ForeignArray(key, _TOP[key], dtype, shape)
    if key in parts:
        return ForeignArray(key, f"action_dict/{key}", dtype, shape)
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


def _set_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name != PASSENGER:
            group.attrs[name] = value
