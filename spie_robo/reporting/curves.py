"""Charts over epochs as the numbers of an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from spie_robo.reporting.run_content import Chart, Line

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 68, 12, 10, 42
TICKS = 4
MOST_TOLD = 8


@final
@dataclass(frozen=True)
class Curve:
    """A line as it is drawn.

    Attributes:
        label: For people.
        path: The ``d`` attribute, with a gap wherever a value is missing.
        dots: (x, y, text) of each value.
        dashed: See :class:`.run_content.Line`.
        colour: Number of its colour, 0 to 3.
        width: Width of the stroke in pixels: a line below another one shows as a rim.
    """

    label: str
    path: str
    dots: tuple[tuple[float, float, str], ...]
    dashed: bool
    colour: int
    width: int


@final
@dataclass(frozen=True)
class Drawing:
    """A chart as it is drawn.

    Attributes:
        chart: What it shows.
        curves: Its lines.
        x_ticks: (x, label).
        y_ticks: (y, label).
        description: The lines in words; empty if there is no value to draw.
        gaps: Says at which epochs a value is missing; empty if there is none missing.
    """

    chart: Chart
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    description: str
    gaps: str


def draw(chart: Chart, epochs: Sequence[int]) -> Drawing:
    """Place a chart's values on a canvas of ``WIDTH`` by ``HEIGHT``.

    Args:
        chart: Values, one a row.
        epochs: Epochs of the rows, ascending.
    """
    known = [value for line in chart.lines for value in line.values if value is not None]
    marks = round_marks([0.0, 1.0, *known] if chart.percent else known)
    low, high = marks[0], marks[-1]
    span = max(1, epochs[-1] - epochs[0])

    def x(epoch: int) -> float:
        return round(LEFT + (epoch - epochs[0]) / span * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def text(value: float) -> str:
        return f"{value:.0%}" if chart.percent else f"{value:.4g}"

    curves = []
    widest = 2 * min(4, sum(not line.dashed for line in chart.lines))
    for number, line in enumerate(chart.lines):
        path, pen, dots = "", "M", []
        for epoch, value in zip(epochs, line.values, strict=True):
            if value is None:
                pen = "M"
                continue
            path += f"{pen}{x(epoch)},{y(value)}"
            pen = "L"
            dots.append((x(epoch), y(value), f"{line.label}, epoch {epoch}: {text(value)}"))
        width = 2 if line.dashed else max(2, widest - 2 * number)
        curves.append(Curve(line.label, path, tuple(dots), line.dashed, number % 4, width))
    every = max(1, math.ceil(span / 6))
    shown = [epoch for epoch in epochs if (epoch - epochs[0]) % every == 0]
    return Drawing(
        chart,
        tuple(curves),
        tuple((x(epoch), str(epoch)) for epoch in shown),
        tuple((y(mark), text(mark)) for mark in marks),
        " ".join(filter(None, (_description(line, epochs, text) for line in chart.lines))),
        _gaps(chart, epochs),
    )


def _description(line: Line, epochs: Sequence[int], text: Callable[[float], str]) -> str:
    """Return the first and the last value of a line, in words."""
    known = [(n, v) for n, v in zip(epochs, line.values, strict=True) if v is not None]
    if not known:
        return ""
    (first, start), (last, end) = known[0], known[-1]
    if line.dashed or first == last:
        return f"{line.label}: {text(end)}."
    return f"{line.label}: {text(start)} at epoch {first}, {text(end)} at epoch {last}."


def _gaps(chart: Chart, epochs: Sequence[int]) -> str:
    """Return the epochs at which some line of the chart has no value, though it has others."""
    lines = [line.values for line in chart.lines if any(v is not None for v in line.values)]
    missing = [str(n) for n, *row in zip(epochs, *lines, strict=True) if None in row]
    if not missing or not lines:
        return ""
    more = " and others" if len(missing) > MOST_TOLD else ""
    return f"No value at epoch {', '.join(missing[:MOST_TOLD])}{more}."


def round_marks(values: Sequence[float]) -> list[float]:
    """Return round numbers at equal distances that enclose the values; 0 and 1 without values."""
    if not values:
        return [0.0, 1.0]
    low, high = min(values), max(values)
    width = max(high - low, abs(high) * 0.01, 1e-9) / TICKS
    unit: float = 10.0 ** math.floor(math.log10(width))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= width)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [number * step for number in range(first, last + 1)]
