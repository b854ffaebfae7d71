"""Hold an evaluation's results as records, and format them as text or JSON.

``values per frame -> summarise() -> Score -> EditorRow -> EvaluationTable -> text or JSON``
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.feedback.nearness import nearer_in_words
from spie_robo.types import RGB, Frame

RAW = "raw"
"""Name of the first row, the simulator's raw frames."""

Better = Literal["lower", "higher", "near 1"]


@final
@dataclass(frozen=True)
class Metric:
    """One metric of the table.

    Attributes:
        key: Name of the metric in JSON.
        label: Name of the metric in tables.
        better: Direction in which a score is better.
    """

    key: str
    label: str
    better: Better


METRICS = (
    Metric("structural_simulator", "structure, against simulator", "lower"),
    Metric("structural_monocular", "structure, against raw frame", "lower"),
    Metric("semantic_nearest", "semantic score, nearest", "lower"),
    Metric("semantic_paper", "semantic score, paper", "lower"),
    Metric("outside_l2", "L2 outside the mask", "lower"),
    Metric("kid", "KID to photos", "lower"),
    Metric("guard_acceptance", "guard acceptance", "higher"),
    Metric("gradient_ratio", "gradient ratio to raw", "near 1"),
    Metric("clip_text", "CLIP text similarity", "higher"),
    Metric("clip_direction", "CLIP directional similarity", "higher"),
    Metric("clip_style", "CLIP patches to style", "higher"),
    Metric("clip_input", "CLIP patches to input", "higher"),
    Metric("dino_style", "DINO patches to style", "higher"),
    Metric("dino_input", "DINO patches to input", "higher"),
    Metric("dreamsim_style", "DreamSim patches to style", "higher"),
    Metric("dreamsim_input", "DreamSim patches to input", "higher"),
    Metric("hps", "HPSv2", "higher"),
    Metric("image_reward", "ImageReward", "higher"),
    Metric("pick_score", "PickScore", "higher"),
    Metric("seconds", "seconds a frame", "lower"),
)
"""All metrics, in the order of the table."""


@final
@dataclass(frozen=True)
class Score:
    """One score of one editor.

    Attributes:
        mean: Mean over the frames where it could be measured; NaN if there are none.
        error: Standard error of the mean over frames; for KID the deviation over its subsets.
            NaN for fewer than two.
        count: Number of frames measured.
        gap_closed: Share of the gap between the raw frames and the floor that the editor closed:
            0 at the raw frames' score, 1 at the floor. None where there is no floor; NaN where
            the raw frames are at the floor already.
        nearer: Share by which the distance is smaller than the raw frames'; None without a floor.
    """

    mean: float
    error: float
    count: int
    gap_closed: float | None = None
    nearer: float | None = None


@final
@dataclass(frozen=True, eq=False)
class EditorRow:
    """One editor's row of the table.

    Attributes:
        name: Name that the user gave.
        editor_id: Name and weights hash.
        scores: Scores by the key of the metric.
        edits: uint8 images, one a frame.
    """

    name: str
    editor_id: str
    scores: Mapping[str, Score]
    edits: tuple[RGB, ...]


@final
@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """The results of all editors on the same frames.

    Attributes:
        rows: Row of the raw frames, then of each editor in the given order.
        floors: Score of held-out photos of the lab, by the key of the metric.
        frames: The frames that were edited.
        photos: The reference photos.
        photo_of: Index in ``photos`` of each frame's photo.
        seeds: Seed of each frame's edits.
        text: Text for the metrics that read text; empty if there were none.
        notes: Notes on the table: what was left out, and why.
    """

    rows: tuple[EditorRow, ...]
    floors: Mapping[str, float]
    frames: tuple[Frame, ...]
    photos: tuple[RGB, ...]
    photo_of: tuple[int, ...]
    seeds: tuple[int, ...]
    text: str = ""
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that were measured, in the order of the table."""
        return tuple(m for m in METRICS if any(m.key in row.scores for row in self.rows))

    def row(self, name: str) -> EditorRow:
        """Return the row of an editor.

        Raises:
            KeyError: If there is no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)


def summarise(values: NDArray[np.floating[Any]]) -> Score:
    """Compute mean and standard error of the finite values.

    Args:
        values: One value a frame; NaN where it could not be measured.
    """
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    count = len(finite)
    error = float(finite.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    return Score(float(finite.mean()) if count else math.nan, error, count)


def gap_closed(raw: float, score: float, floor: float, better: Better) -> float:
    """Return the share of the gap from raw frames to photos that an editor closed.

    It is ``(raw - score) / (raw - floor)``: 0 at the raw frames' score, 1 at the photos'; below 0
    if the edits are farther away than the raw frames.

    Returns:
        The share; NaN if there is no gap, because the raw frames score as well as the photos.
    """
    gap = floor - raw if better == "higher" else raw - floor
    return (raw - score) / (raw - floor) if gap > 0 else math.nan


def format_table(table: EvaluationTable) -> str:
    """Return the table as aligned text: one line a metric, one column an editor.

    Cells are ``mean ±error``; where there is a floor, how much nearer that is stands below.
    """
    names = [row.name if len(row.name) <= 24 else f"…{row.name[-23:]}" for row in table.rows]
    # Collect the cells of each line.
    with_floor = bool(table.floors)
    lines = [["metric", "better", *names, *(["held-out photos"] if with_floor else [])]]
    for metric in table.metrics:
        scores = [row.scores.get(metric.key) for row in table.rows]
        floor = table.floors.get(metric.key)
        line = [metric.label, metric.better, *(format_score(score) for score in scores)]
        lines.append(line + ([format_floor(floor)] if with_floor else []))
        if floor is not None:
            shares = [format_share(score) for score in scores[1:]]
            lines.append(["  than raw frames", "", "", *shares, ""])
    # Align the columns.
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["  ".join(_cells(line, widths)).rstrip() for line in lines]
    return "\n".join([rows[0], "-" * max(map(len, rows)), *rows[1:]])


def _cells(line: list[str], widths: list[int]) -> list[str]:
    """Pad the cells: two columns of words to the left, figures to the right."""
    return [
        cell.ljust(width) if index < 2 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def format_score(score: Score | None) -> str:
    """Return a mean and its error with equal decimals, e.g. ``0.412 ±0.006``."""
    if score is None or not math.isfinite(score.mean):
        return "-"
    text = format_number(score.mean)
    if not math.isfinite(score.error):
        return text
    return f"{text} ±{score.error:.{len(text.partition('.')[2])}f}"


def format_share(score: Score | None) -> str:
    """Return how much nearer to the photos it is, e.g. ``38 % nearer``; empty if unknown."""
    return "" if score is None or score.nearer is None else nearer_in_words(score.nearer)


def format_floor(floor: float | None) -> str:
    """Return the score of held-out photos; empty if there is none."""
    return "" if floor is None else format_number(floor)


def format_number(value: float) -> str:
    """Format a number with three decimals, or five if it is smaller than a hundredth."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.5f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def table_as_json(table: EvaluationTable, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table as plain JSON values; NaN becomes null, pictures are left out.

    Args:
        table: The measured table.
        settings: Data and settings of the evaluation, as plain values.
    """
    return {
        "settings": dict(settings),
        "frames": [
            {"camera": frame.camera, "photo": photo, "seed": seed}
            for frame, photo, seed in zip(table.frames, table.photo_of, table.seeds, strict=True)
        ],
        "text": table.text,
        "metrics": {m.key: {"label": m.label, "better": m.better} for m in table.metrics},
        "floors": {key: _plain(value) for key, value in table.floors.items()},
        "editors": [
            {
                "name": row.name,
                "id": row.editor_id,
                "scores": {key: _score_as_json(score) for key, score in row.scores.items()},
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _score_as_json(score: Score) -> dict[str, Any]:
    values: dict[str, Any] = {
        "mean": _plain(score.mean),
        "error": _plain(score.error),
        "count": score.count,
    }
    if score.gap_closed is not None:
        values["gap_closed"] = _plain(score.gap_closed)
    if score.nearer is not None:
        values["nearer"] = _plain(score.nearer)
    return values


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
