"""Read success rates of policies from a CSV file.

::

    policy,real,real_episodes,sim,sim_edited
    bc_raw,0.30,20,0.85,0.40
    bc_edited,0.65,20,0.80,0.70

``policy``, ``real`` and ``sim`` are required; every further column is another simulator. Rates lie
in 0..1. ``<column>_episodes`` gives the number of episodes of a column's rates. Columns are
separated by commas, semicolons or tabs; without commas, 0,85 also means 0.85.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

import numpy as np

from spie_robo.errors import ConfigError
from spie_robo.evaluation.proxy import FEWEST_POLICIES, SuccessRates, require_different
from spie_robo.settings.wording import shortened, shown

EPISODES = "_episodes"
NEEDED = ("policy", "real", "sim")
_MOST_EPISODES = 10**9

_DECIMAL = re.compile(r"^([+-]?\d+),(\d+)$")
_FRACTION = re.compile(r"(\d{1,9}) ?/ ?(\d{1,9})")

_Line: TypeAlias = tuple[int, dict[str, str]]
"""Line number in the file, and the line's cells by column."""


@final
@dataclass(frozen=True, eq=False)
class ProxyTable:
    """The contents of a CSV file.

    Attributes:
        policies: Names of the policies, in the order of the file.
        real: Success in reality.
        simulators: Success in each simulator, in the order of the columns.
    """

    policies: tuple[str, ...]
    real: SuccessRates
    simulators: tuple[SuccessRates, ...]


def read_proxy_table(file: Path) -> ProxyTable:
    """Read and check a CSV file.

    Args:
        file: CSV file in UTF-8, with a header.

    Raises:
        ConfigError: If it cannot be read, a column is missing or unknown, a rate is not a number in
            0..1, a policy comes twice, there are fewer than three, or all are equal in reality.
    """
    columns, lines = _read(file)
    policies = _policies(file, lines)
    if len(policies) < FEWEST_POLICIES:
        raise ConfigError(
            f"{file}: expected {FEWEST_POLICIES} or more policies, got {len(policies)}. A "
            "correlation of fewer says nothing: evaluate further policies or checkpoints."
        )
    real = _success(file, "real", columns, lines)
    require_different(real, f"{file}, real")
    simulators = [c for c in columns if c not in ("policy", "real") and not c.endswith(EPISODES)]
    return ProxyTable(
        policies,
        real,
        tuple(_success(file, name, columns, lines) for name in simulators),
    )


def _read(file: Path) -> tuple[list[str], list[_Line]]:
    """Read the header, check it, and return it with the lines that are not blank."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            delimiter = _delimiter(opened.readline())
            opened.seek(0)
            reader = csv.reader(opened, delimiter=delimiter, strict=True)
            columns = [cell.strip() for cell in next(reader, [])]
            _check_columns(file, columns)
            lines: list[_Line] = []
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    raise ConfigError(
                        f"{file}, line {reader.line_num}: expected {len(columns)} cells as in the "
                        f"header, got {len(cells)}. Decimals are written with a point."
                    )
                cells = [cell.strip() for cell in cells]
                if delimiter != ",":
                    cells = [_DECIMAL.sub(r"\1.\2", cell) for cell in cells]
                values = dict(zip(columns, cells, strict=True))
                lines.append((reader.line_num, values))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{file}: expected a CSV file in UTF-8, {error}. Export the table as CSV again."
        ) from error
    return columns, lines


def _delimiter(header: str) -> str:
    """Return the separator of a header's columns: a comma, or without commas the most frequent."""
    if "," in header:
        return ","
    return max(",;\t", key=header.count)


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    found = ", ".join(column or "(empty)" for column in columns) or "nothing"
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise ConfigError(
            f"{file}, line 1: expected the columns {', '.join(NEEDED)}, separated by commas or "
            f"semicolons, got "
            f"{found}. Add {' and '.join(missing)}."
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice or "" in columns:
        raise ConfigError(
            f"{file}, line 1: expected a name of its own for each column, got {found}."
        )
    for name in columns:
        of = name.removesuffix(EPISODES)
        if name.endswith(EPISODES) and (of not in columns or of == "policy"):
            fault = "has no success rates" if of == "policy" else "does not exist"
            raise ConfigError(
                f"{file}, line 1: {name} belongs to a column {of!r}, which {fault}. Columns: "
                f"{found}."
            )


def _policies(file: Path, lines: Sequence[_Line]) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for number, cells in lines:
        name = cells["policy"]
        if not name:
            raise ConfigError(f"{file}, line {number}: expected a policy's name, got nothing.")
        if name in first:
            raise ConfigError(
                f"{file}, line {number}: policy {name!r} was already in line {first[name]}. Each "
                "policy has one line: average its runs, or give them names of their own."
            )
        first[name] = number
    return tuple(first)


def _success(file: Path, name: str, columns: Sequence[str], lines: Sequence[_Line]) -> SuccessRates:
    key = name + EPISODES
    rates = [_rate(file, number, name, cells[name], cells.get(key, "")) for number, cells in lines]
    episodes = (
        np.array([_count(file, number, key, cells[key]) for number, cells in lines], np.int64)
        if key in columns
        else None
    )
    return SuccessRates(name, np.array(rates, np.float64), episodes)


def _rate(file: Path, number: int, name: str, cell: str, episodes: str) -> float:
    where = f"{file}, line {number}, {name}"
    try:
        value = float(cell)
    except ValueError as error:
        raise ConfigError(
            f"{where}: expected a number in 0..1, got {shown(cell)}.{_as_rate(cell)}"
        ) from error
    if 0 <= value <= 1:
        return value
    got = shortened(cell) if math.isfinite(value) else f"{cell}, which is not finite"
    raise ConfigError(
        f"{where}: expected a success rate in 0..1, got {got}.{_advice(value, episodes)}"
    )


def _as_rate(cell: str) -> str:
    """Return advice on a cell that is not a number."""
    if cell.endswith("%"):
        return " Write 0.85 for 85 %."
    fraction = _FRACTION.fullmatch(cell)
    if fraction is None or int(fraction[2]) == 0:
        return ""
    return f" Write {int(fraction[1]) / int(fraction[2]):g} for {cell}."


def _advice(value: float, episodes: str) -> str:
    """Return advice on a number above 1, which may count solved episodes or be percent."""
    if not 1 < value <= _MOST_EPISODES:
        return ""
    with suppress(ValueError):
        if value.is_integer() and value <= float(episodes):
            rate = value / float(episodes)
            return f" That looks like a count: {value:g} of {episodes} episodes is {rate:g}."
    if value > 100:
        return ""
    return (
        " Percent are divided by 100 (85 % is 0.85), counts by their episodes (15 of 20 is 0.75)."
    )


def _count(file: Path, number: int, name: str, cell: str) -> int:
    where = f"{file}, line {number}, {name}"
    try:
        value = float(cell)
    except ValueError as error:
        raise ConfigError(f"{where}: expected a number of episodes, got {cell!r}.") from error
    if not 1 <= value <= _MOST_EPISODES or value != int(value):
        raise ConfigError(
            f"{where}: expected a whole number of episodes, 1 to {_MOST_EPISODES}, got {cell}."
        )
    return int(value)
