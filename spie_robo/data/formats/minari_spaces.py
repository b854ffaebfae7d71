"""Gymnasium spaces of a Minari data set: those of the source where they are still true.

A source's spaces are kept in metadata as ``{name of the array: leaf}``. A leaf is Minari's own JSON
of a space that is neither a Dict nor a Tuple; bounds that are all equal are one number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spie_robo.data.formats.naming import ForeignArray
from spie_robo.data.formats.source_record import plain

IMAGE_SIDE = 32
"""Least sides of what Minari 0.5.4 takes for an image, and packs as JPEG by default."""

_ROOTS = {"observations": "observation_space", "actions": "action_space"}
_MOST_BYTES = 2**16
_TUPLE = "Tuple"
_TYPES = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")


def leaves_of(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the spaces that ``metadata.json`` describes, by the name of array or Tuple."""
    found: dict[str, dict[str, Any]] = {}
    for root, name in _ROOTS.items():
        text = about.get(name)
        try:
            space = json.loads(text) if isinstance(text, str) else text
        except ValueError:
            continue
        found |= _walk(root, space)
    return found


def compact(leaves: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the spaces as JSON values that are small enough for the header of a store."""
    kept = {}
    for name, leaf in leaves.items():
        small = {k: _one_number(v) if k in ("low", "high") else v for k, v in leaf.items()}
        if len(json.dumps(small)) <= _MOST_BYTES:
            kept[name] = plain(small)
    return kept


def is_image_leaf(leaf: Mapping[str, Any]) -> bool:
    """Return whether Minari may have packed the arrays of a space as JPEG."""
    return leaf.get("dtype") == "uint8" and len(leaf.get("shape", ())) in (2, 3)


def nested(items: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Nest arrays or spaces by their names as Minari does, in groups and tuples.

    Args:
        items: By name, with "/" between groups, e.g. ``observations/agent/position``.
        kept: What :func:`compact` gave; empty for other sources.
    """
    tree: dict[str, Any] = {}
    for name, item in items.items():
        *groups, last = name.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = item
    return {name: _with_tuples(item, name, kept) for name, item in tree.items()}


def as_space(tree: Any) -> Any:
    """Return a tree of spaces as one space."""
    from gymnasium import spaces

    if isinstance(tree, dict):
        return spaces.Dict({name: as_space(item) for name, item in tree.items()})
    if isinstance(tree, tuple):
        return spaces.Tuple([as_space(item) for item in tree])
    return tree


def space_of(place: ForeignArray, kept: Mapping[str, Any], image: bool) -> Any:
    """Return the space of one array: that of the source if it fits, else one without bounds.

    Args:
        place: Name, type and shape.
        kept: What :func:`compact` gave.
        image: Whether it may be packed as an image.
    """
    from gymnasium import spaces

    leaf = kept.get(place.name)
    if leaf is not None and (image or not is_image_leaf(leaf)):
        space = _rebuilt(leaf)
        if space is not None and space.shape == place.shape and space.dtype == place.dtype:
            return space
    dtype = np.dtype(place.dtype)
    if dtype.kind == "b":
        return spaces.MultiBinary(place.shape or 1)
    info = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (-np.inf, np.inf) if info is None else (info.min, info.max)
    return spaces.Box(low, high, place.shape, dtype.type)


def _walk(name: str, space: object) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    waiting = [(name, space)]
    while waiting:
        place, item = waiting.pop()
        if not isinstance(item, Mapping):
            continue
        subspaces = item.get("subspaces")
        if isinstance(subspaces, Mapping):
            waiting += [(f"{place}/{key}", inner) for key, inner in subspaces.items()]
        elif isinstance(subspaces, list):
            found[place] = {"type": _TUPLE, "count": len(subspaces)}
            waiting += [(f"{place}/_index_{i}", inner) for i, inner in enumerate(subspaces)]
        else:
            found[place] = dict(item)
    return found


def _one_number(values: Any) -> Any:
    flat = np.asarray(values).reshape(-1)
    return flat[0].item() if flat.size and (flat == flat[0]).all() else values


def _with_tuples(tree: Any, name: str, kept: Mapping[str, Any]) -> Any:
    if not isinstance(tree, dict):
        return tree
    inner = {key: _with_tuples(item, f"{name}/{key}", kept) for key, item in tree.items()}
    leaf = kept.get(name, {})
    count = leaf.get("count") if leaf.get("type") == _TUPLE else None
    members = [f"_index_{i}" for i in range(count)] if isinstance(count, int) else []
    if members and set(members) == set(inner):
        return tuple(inner[member] for member in members)
    return inner


def _rebuilt(leaf: Mapping[str, Any]) -> Any:
    """Return the space of a leaf; None if it is another, or damaged."""
    from gymnasium import spaces

    try:
        kind = leaf["type"]
        if kind == "Discrete":
            return spaces.Discrete(int(leaf["n"]), start=int(leaf.get("start", 0)))
        if kind == "MultiDiscrete":
            dtype = np.dtype(leaf.get("dtype", "int64"))
            return spaces.MultiDiscrete(np.array(leaf["nvec"]), dtype=dtype.type)
        if kind == "MultiBinary":
            return spaces.MultiBinary(leaf["n"])
        if kind != "Box":
            return None
        shape, dtype = tuple(leaf["shape"]), np.dtype(leaf["dtype"])
        low, high = (_bound(leaf[name], shape, dtype) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype=dtype.type)
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError):
        return None


def _bound(values: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return bounds of a Box; infinities are texts in the header of a store."""
    numbers = np.array(values, dtype=object).reshape(-1).tolist()
    cast = [float(value) if isinstance(value, str) else value for value in numbers]
    return np.broadcast_to(np.array(cast, dtype).reshape(shape if len(cast) > 1 else ()), shape)


def image_leaves(leaves: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Yield names of the arrays that may be JPEG, and whether they are grey."""
    for name, leaf in leaves.items():
        if leaf.get("type", "Box") in _TYPES and is_image_leaf(leaf):
            yield name, len(leaf["shape"]) == 2
