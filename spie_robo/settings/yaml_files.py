"""Read YAML files as settings records.

The keys of a YAML file are the fields of its dataclass; nested records are nested mappings::

    env: SpieRobo/Push-v0
    episodes: 10
    edit:
      editor: embedded

Only plain documents are read. Aliases and merge keys are refused, because a few lines of them can
stand for gigabytes; so is nesting deeper than that of settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from spie_robo.errors import ConfigError
from spie_robo.settings.wording import shortened, shown

MAX_BYTES = 2**20
"""Largest file of settings, bytes."""

_MOST_DEPTH = 16
_CANNOT_MEAN = (ValueError, OverflowError, RecursionError)  # a date of month 13, a huge number

Config = TypeVar("Config")


def load_config(cls: type[Config], path: str | Path) -> Config:
    """Make a settings record from a YAML file.

    Args:
        cls: A frozen dataclass of plain fields.
        path: The YAML file.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown, missing, of the wrong
            type or out of range.
    """
    values = read_values(cls, path)
    missing = [
        item.name
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if _is_required(item) and item.name not in values
    ]
    if missing:
        raise ConfigError(f"{path}: expected {', '.join(map(repr, missing))}, which is missing.")
    return cls(**values)


def read_values(cls: type[Any], path: str | Path, base: Any = None) -> dict[str, Any]:
    """Read a YAML file's settings and check them against ``cls``; some may be missing.

    Args:
        cls: The dataclass.
        path: The YAML file.
        base: A ``cls`` whose nested records the file changes in part; None: the default records of
            ``cls``, so that a file and the flags of the same names mean the same.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown or of the wrong type.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"Config file {path}: expected a file, found a folder or a device.")
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"Config file {path}: expected at most {MAX_BYTES} bytes of YAML.")
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"Config file {path}: no such file.") from None
    except (OSError, yaml.YAMLError, *_CANNOT_MEAN) as error:
        reason = shortened(str(error), 300) or type(error).__name__
        raise ConfigError(f"Config file {path}: cannot be read as YAML: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected 'setting: value' lines, got {_kind(content)}.")
    try:
        return _check_mapping(cls, content, base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def from_mapping(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a record from plain values, as JSON and YAML give them.

    Raises:
        ConfigError: If a setting is unknown, of the wrong type or out of range.
        TypeError: If a setting is missing.
    """
    return cls(**_check_mapping(cls, values, None))


class _Loader(yaml.SafeLoader):
    """A safe loader with limits, which refuses a key that stands twice; YAML would lose one."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one value; an alias or a value nested too deep raises YAMLError."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(
                f"aliases (*{shortened(event.anchor or '', 40)}) are not read,{mark}"
            )
        if self._depth >= _MOST_DEPTH:
            raise yaml.YAMLError(f"expected nesting of at most {_MOST_DEPTH},{mark}")
        self._depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping and raise YAMLError if a key stands twice."""
        keys = [key.value for key, _ in node.value]
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError(f"merge keys (<<) are not read,{node.start_mark}")
        counts = Counter(key for key in keys if isinstance(key, str))
        twice = sorted(key for key, count in counts.items() if count > 1)
        if twice:
            raise yaml.YAMLError(f"{shown(twice[0])} is there twice,{node.start_mark}")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def _check_mapping(cls: type[Any], content: Mapping[Any, Any], base: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if not isinstance(key, str) or key not in hints:
            close = difflib.get_close_matches(shortened(str(key)), hints, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(hints)}."
            raise ConfigError(f"unknown setting {shown(key)}. {advice}")
        try:
            before = _default_of(cls, key) if base is None else getattr(base, key, None)
            if dataclasses.is_dataclass(before) and isinstance(value, Mapping):
                changes = _check_mapping(type(before), value, before)
                values[key] = dataclasses.replace(before, **changes)  # type: ignore[type-var]
            else:
                values[key] = _coerce(value, hints[key])
        except (TypeError, ConfigError) as error:
            raise ConfigError(f"{key}: {error}") from None
    return values


def _coerce(value: Any, hint: Any) -> Any:
    """Convert ``value``, as YAML gives it, to the type ``hint``.

    Raises:
        TypeError: If it has another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, arguments)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        raise TypeError(f"expected one of {', '.join(map(str, arguments))}, got {shown(value)}.")
    if origin is tuple and isinstance(value, list):
        return tuple(_coerce(item, arguments[0]) for item in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return hint(**_check_mapping(hint, value, None))
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    value = _as_float(value) if hint is float else value
    if isinstance(value, int) and abs(value) >= 2**63:
        raise TypeError(f"expected a number of at most 63 bits, got {shown(value)}.")
    expected = origin or hint
    if isinstance(value, expected) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise TypeError(f"expected {_name(hint)}, got {_kind(value)} {shown(value)}.")


def _as_float(value: Any) -> Any:
    """Convert whole numbers, and texts such as 1e-4 (YAML needs 1.0e-4), to float."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)
    return value


def _coerce_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    for argument in arguments:
        try:
            return _coerce(value, argument)
        except TypeError:
            continue
    expected = " or ".join(_name(argument) for argument in arguments)
    raise TypeError(f"expected {expected}, got {_kind(value)} {shown(value)}.")


def _name(hint: Any) -> str:
    plain = {type(None): "null", tuple: "a list", Path: "a path", str: "text"}
    origin = typing.get_origin(hint) or hint
    return plain.get(origin, getattr(origin, "__name__", str(origin)))


def _kind(value: Any) -> str:
    return _name(type(value)) if value is not None else "null"


def _default_of(cls: type[Any], key: str) -> Any:
    item = cls.__dataclass_fields__[key]
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
