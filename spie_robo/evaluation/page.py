"""Render an evaluation as one HTML file that opens offline: a table and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, final

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from spie_robo.editor.references import cover
from spie_robo.evaluation.table import (
    EvaluationTable,
    Metric,
    format_floor,
    format_score,
    format_share,
)
from spie_robo.reporting.images import data_uri
from spie_robo.reporting.text import as_text

MOST_PICTURES = 12
"""Most frames to show."""


@final
@dataclass(frozen=True)
class _Cell:
    text: str
    share: str


@final
@dataclass(frozen=True)
class _Line:
    label: str
    better: str
    cells: tuple[_Cell, ...]
    floor: str


@final
@dataclass(frozen=True)
class _Picture:
    uri: str
    label: str


def render_comparison(table: EvaluationTable, title: str, settings: Mapping[str, Any]) -> str:
    """Render the HTML of an evaluation.

    Args:
        table: The measured table.
        title: Title of the page.
        settings: Data and settings of the evaluation, as plain values, shown at the end.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    source = resources.files("spie_robo.evaluation").joinpath("page.html").read_text("utf-8")
    style = resources.files("spie_robo.reporting").joinpath("style.css").read_text("utf-8")
    editors = [(f"Editor {row.name}", row.editor_id) for row in table.rows]
    return environment.from_string(source).render(
        title=title,
        style=Markup(style),
        table=table,
        columns=len(table.rows) + 1,
        lines=[_line(table, metric) for metric in table.metrics],
        pictures=_pictures(table),
        provenance=[*editors, *((_label(key), as_text(v, "none")) for key, v in settings.items())],
    )


def _line(table: EvaluationTable, metric: Metric) -> _Line:
    scores = [row.scores.get(metric.key) for row in table.rows]
    # The raw frames are what is compared with: 0 % says nothing there.
    shares = ["", *(format_share(score) for score in scores[1:])]
    return _Line(
        label=metric.label,
        better=metric.better,
        cells=tuple(
            _Cell(format_score(score), share) for score, share in zip(scores, shares, strict=True)
        ),
        floor=format_floor(table.floors.get(metric.key)),
    )


def _pictures(table: EvaluationTable) -> list[list[_Picture]]:
    """Return rows of pictures, each with the edits of one frame and then its reference photo."""
    count = len(table.frames)
    chosen = np.linspace(0, count - 1, min(count, MOST_PICTURES)).round().astype(int)
    lines = []
    for index in map(int, chosen):
        height, width = table.frames[index].rgb.shape[:2]
        line = [
            _Picture(data_uri(row.edits[index]), f"frame {index}, {row.name}") for row in table.rows
        ]
        photo = cover(table.photos[table.photo_of[index]], height, width)
        lines.append([*line, _Picture(data_uri(photo), f"reference photo of frame {index}")])
    return lines


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()
