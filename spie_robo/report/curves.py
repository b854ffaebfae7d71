"""Charts over epochs as the numbers of an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from spie_robo.report.run_content import Chart

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 26
TICKS = 4


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
    """

    label: str
    path: str
    dots: tuple[tuple[float, float, str], ...]
    dashed: bool
    colour: int


@final
@dataclass(frozen=True)
class Drawing:
    """A chart as it is drawn.

    Attributes:
        chart: What it shows.
        curves: Its lines.
        x_ticks: (x, label).
        y_ticks: (y, label).
    """

    chart: Chart
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def draw(chart: Chart, epochs: Sequence[int]) -> Drawing:
    """Place a chart's values on a canvas of ``WIDTH`` by ``HEIGHT``.

    Args:
        chart: Values, one a row.
        epochs: Of the rows, ascending.
    """
    known = [value for line in chart.lines for value in line.values if value is not None]
    marks = [0.0, 0.25, 0.5, 0.75, 1.0] if chart.percent else round_marks(known)
    low, high = marks[0], marks[-1]
    span = max(1, epochs[-1] - epochs[0])

    def x(epoch: int) -> float:
        return round(LEFT + (epoch - epochs[0]) / span * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def text(value: float) -> str:
        return f"{value:.0%}" if chart.percent else f"{value:.4g}"

    curves = []
    for number, line in enumerate(chart.lines):
        path, pen, dots = "", "M", []
        for epoch, value in zip(epochs, line.values, strict=True):
            if value is None:
                pen = "M"
                continue
            path += f"{pen}{x(epoch)},{y(value)}"
            pen = "L"
            dots.append((x(epoch), y(value), f"{line.label}, epoch {epoch}: {text(value)}"))
        curves.append(Curve(line.label, path, tuple(dots), line.dashed, number % 4))
    every = max(1, math.ceil(span / 6))
    shown = [epoch for epoch in epochs if (epoch - epochs[0]) % every == 0]
    return Drawing(
        chart,
        tuple(curves),
        tuple((x(epoch), str(epoch)) for epoch in shown),
        tuple((y(mark), text(mark)) for mark in marks),
    )


def round_marks(values: Sequence[float]) -> list[float]:
    """Round numbers at equal distances that enclose the values; 0 and 1 where there are none."""
    if not values:
        return [0.0, 1.0]
    low, high = min(values), max(values)
    width = max(high - low, abs(high) * 0.01, 1e-9) / TICKS
    unit: float = 10.0 ** math.floor(math.log10(width))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= width)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [number * step for number in range(first, last + 1)]
