from __future__ import annotations

import json
import math

import numpy as np
import pytest

from spie_robo.evaluation.table import (
    METRICS,
    EditorRow,
    EvaluationTable,
    Score,
    format_number,
    format_score,
    format_table,
    gap_closed,
    summarise,
    table_as_json,
)
from spie_robo.types import Frame


def table() -> EvaluationTable:
    image = np.zeros((16, 16, 3), np.uint8)
    raw = {
        "semantic_paper": Score(0.6, 0.01, 2, 0.0),
        "guard_acceptance": Score(1.0, 0.0, 2),
    }
    edited = {
        "semantic_paper": Score(0.5, 0.02, 2, 0.25, 1 / 6),
        "guard_acceptance": Score(0.5, math.nan, 2),
        "seconds": Score(0.004, math.nan, 2),
    }
    return EvaluationTable(
        rows=(
            EditorRow("raw", "raw", raw, (image, image)),
            EditorRow("a/very/long/path/to/an/editor", "x@1", edited, (image, image)),
        ),
        floors={"semantic_paper": 0.2},
        frames=(Frame(image), Frame(image)),
        photos=(image,),
        photo_of=(0, 0),
        seeds=(3, 4),
        notes=("a note",),
    )


def test_mean_and_standard_error_of_finite_values() -> None:
    score = summarise(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (score.mean, score.count) == (2.0, 3)
    assert score.error == pytest.approx(1 / math.sqrt(3))
    single, nothing = summarise(np.array([2.0])), summarise(np.array([np.nan]))
    assert single.mean == 2.0 and math.isnan(single.error)
    assert math.isnan(nothing.mean) and nothing.count == 0


@pytest.mark.parametrize(
    ("raw", "score", "floor", "better", "share"),
    [
        (0.6, 0.5, 0.2, "lower", 0.25),
        (0.6, 0.7, 0.2, "lower", -0.25),
        (0.6, 0.1, 0.2, "lower", 1.25),
        (0.2, 0.4, 0.6, "higher", 0.5),
    ],
)
def test_share_of_the_gap(
    raw: float, score: float, floor: float, better: str, share: float
) -> None:
    assert gap_closed(raw, score, floor, better) == pytest.approx(share)


@pytest.mark.parametrize(("floor", "better"), [(0.7, "lower"), (0.6, "lower"), (0.5, "higher")])
def test_without_a_gap_there_is_no_share(floor: float, better: str) -> None:
    assert math.isnan(gap_closed(0.6, 0.5, floor, better))


def test_text_is_aligned_and_says_what_is_better() -> None:
    lines = format_table(table()).splitlines()
    head, semantic, gap = lines[0], lines[2], lines[3]
    assert head.split()[:3] == ["metric", "better", "raw"]
    assert "…" in head and "editor" in head and "a/very" not in head
    assert "lower" in semantic and "0.600 ±0.010" in semantic and semantic.endswith("0.200")
    assert gap.index("17 % nearer") + 11 == semantic.index("0.500 ±0.020") + len("0.500 ±0.020")
    seconds = next(line for line in lines if line.startswith("seconds"))
    assert seconds.split()[-2:] == ["-", "0.00400"]


def test_only_measured_metrics_are_shown_in_a_fixed_order() -> None:
    assert [m.key for m in table().metrics] == ["semantic_paper", "guard_acceptance", "seconds"]
    assert len({metric.key for metric in METRICS}) == len(METRICS)


def test_numbers() -> None:
    assert format_number(0.12345) == "0.123"
    assert format_number(0.00123) == "0.00123"
    assert format_number(0.0) == "0.000"
    assert format_number(math.nan) == "-"
    assert format_score(None) == "-"
    assert format_score(Score(0.6, 0.0079, 2)) == "0.600 ±0.008"
    assert format_score(Score(0.0012, 0.0003, 2)) == "0.00120 ±0.00030"


def test_json_is_plain() -> None:
    record = json.loads(json.dumps(table_as_json(table(), {"seed": 3}), allow_nan=False))
    edited = record["editors"][1]
    assert edited["id"] == "x@1"
    assert edited["scores"]["semantic_paper"]["gap_closed"] == 0.25
    assert edited["scores"]["semantic_paper"]["nearer"] == 1 / 6
    assert edited["scores"]["guard_acceptance"] == {"mean": 0.5, "error": None, "count": 2}
    assert record["frames"][1] == {"camera": "camera", "photo": 0, "seed": 4}
    assert record["metrics"]["semantic_paper"]["better"] == "lower"
    assert record["settings"] == {"seed": 3} and record["floors"] == {"semantic_paper": 0.2}


def test_a_row_by_name() -> None:
    assert table().row("raw").editor_id == "raw"
    with pytest.raises(KeyError):
        table().row("other")
