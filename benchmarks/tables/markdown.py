"""Results of ``benchmarks/results`` as Markdown tables: what all of them need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "results"


def load(name: str) -> dict[str, Any]:
    """What a benchmark kept: the file's ``results``, with NaN where JSON has null."""
    return dict(_with_nan(record(name).get("results", record(name))))


def record(name: str) -> dict[str, Any]:
    """A whole file of results, with machine, seed and commit."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def cells(*names: str) -> list[dict[str, Any]]:
    """The cells of several files, one after another."""
    return [cell for name in names for cell in load(name)["cells"]]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), "|".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if i != 1 else f"|{line}|" for i, line in enumerate(lines))


def median_of(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the least and the most."""
    found = np.asarray(values, float)
    return f"{np.median(found):.{digits}f} ({found.min():.{digits}f} to {found.max():.{digits}f})"


def share(value: float, digits: int = 0) -> str:
    """A share in per cent; empty where it was not measured."""
    return "" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def with_interval(row: dict[str, float], name: str, digits: int) -> str:
    """A value and its 95 % interval, from ``name``, ``name_low`` and ``name_high``."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(value):
        return ""
    if math.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def mean_and_deviation(values: Sequence[float], digits: int = 4) -> str:
    """The mean ± the standard deviation (over n); the mean alone of one value."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values):.{digits}f}" if len(values) > 1 else mean


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value
