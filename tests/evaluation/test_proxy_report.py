from __future__ import annotations

import json
from pathlib import Path

import pytest

from spie_robo import cli
from spie_robo.evaluation.proxy import Comparison
from spie_robo.evaluation.proxy_report import verdict

GOOD = """policy,real,real_episodes,sim,sim_edited
a,0.1,20,0.8,0.2
b,0.3,20,0.6,0.3
c,0.5,20,0.7,0.5
d,0.7,20,0.5,0.6
e,0.8,20,0.6,0.9
f,0.9,20,0.4,0.8
"""


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(["evaluate-proxy", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_table_verdict_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, written = tmp_path / "rates.csv", tmp_path / "new" / "proxy.json"
    file.write_text(GOOD)
    code, out, err = run([str(file), "--json", str(written), "--seed", "2"], capsys)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "simulator   policies         Pearson r [95 %]           MMRV [95 %]"
    assert lines[2].split()[:2] == ["sim", "6"] and lines[2].split()[2].startswith("-0.8")
    assert lines[3].split()[:3] == ["sim_edited", "6", "0.960"]
    assert "of the episodes of real" in lines[4] and "seed 2" in lines[4]
    assert lines[5].startswith("sim_edited predicts better than sim: r ")
    assert "excludes zero" in lines[5]
    record = json.loads(written.read_text())
    assert record["source"] == str(file) and record["seed"] == 2
    assert record["simulators"][1]["pearson"] == pytest.approx(0.960, abs=5e-4)
    assert record["comparisons"][0]["baseline"] == "sim"
    assert record["verdicts"] == [lines[5]]


def test_the_table_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(GOOD)
    code, _, err = run([str(file), "--json", str(tmp_path / "." / "rates.csv")], capsys)
    assert code == 2 and "expected another file than the table" in err
    assert file.read_text() == GOOD
    code, _, err = run([str(file), "--resamples", "10000000000000"], capsys)
    assert code == 2 and "resamples: expected 1000000 or less" in err


def test_constant_column_is_said_and_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, written = tmp_path / "rates.csv", tmp_path / "proxy.json"
    file.write_text("policy,real,sim\na,0.1,0\nb,0.5,0\nc,0.9,0\n")
    code, out, err = run([str(file), "--json", str(written)], capsys)
    assert code == 0, err
    assert "undefined" in out and "does not tell them apart" in out and "nan" not in out.lower()
    assert json.loads(written.read_text())["simulators"][0]["pearson"] is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (GOOD.replace("0.1,", "10,"), "line 2, real"),
        ("policy,real,sim\na,0.5,0\nb,0.5,0.1\nc,0.5,0.3\n", "all 3 have 0.5"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(text)
    code, out, err = run([str(file)], capsys)
    assert code == 2 and out == "" and err.count("\n") == 1 and part in err


def test_json_goes_nowhere_if_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(GOOD)
    code, _, err = run([str(file), "--json", str(tmp_path)], capsys)
    assert code == 2 and "this is a folder" in err
    code, _, err = run([str(file), "--json", str(file / "x.json")], capsys)
    assert code == 2 and "cannot be written" in err


def test_episodes_of_one_simulator_only_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(GOOD)
    assert "Without episodes" not in run([str(file)], capsys)[1]  # of none
    with_some = GOOD.replace(",sim,", ",sim,sim_episodes,").replace("0.8,0.2", "0.8,20,0.2")
    lines = with_some.splitlines()
    lines[2:] = [",".join([*line.split(",")[:4], "20", line.split(",")[4]]) for line in lines[2:]]
    file.write_text("\n".join(lines) + "\n")
    code, out, err = run([str(file)], capsys)
    assert code == 0, err
    assert "Without episodes: sim_edited." in out


@pytest.mark.parametrize(("flag", "value"), [("--resamples", "99"), ("--seed", "-1")])
def test_ranges_of_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(GOOD)
    code, _, err = run([str(file), f"{flag}={value}"], capsys)
    assert code == 2 and f"got {value}" in err


@pytest.mark.parametrize(
    ("comparison", "start"),
    [
        (Comparison("b", "a", 0.1, (0.02, 0.2), 0.1, (-0.1, 0.2)), "b predicts better than a: r"),
        (
            Comparison("b", "a", 0.1, (-0.1, 0.2), 0.0, (-0.1, 0.2)),
            "b predicts better than a, but these policies are too few or too alike",
        ),
        (Comparison("b", "a", -0.1, (-0.2, -0.1), -0.1, (-0.2, 0.2)), "a predicts better than b:"),
        (Comparison("b", "a", 0.1, (0.1, 0.2), -0.1, (-0.2, 0.2)), "b and a are each better by"),
        (Comparison("b", "a", 0.0, (0.0, 0.0), 0.0, (0.0, 0.0)), "b and a predict equally well"),
        (Comparison("b", "a", None, None, 0.2, (0.1, 0.3)), "b predicts better than a: r cannot"),
        (  # an interval of the loser's is no certainty of the winner's
            Comparison("b", "a", 0.0, (-0.2, -0.1), 0.1, (-0.1, 0.2)),
            "b predicts better than a, but these policies are too few or too alike",
        ),
        (  # rounding
            Comparison("b", "a", 1e-16, (-1e-16, 1e-16), -1e-17, (0.0, 0.0)),
            "b and a predict equally well",
        ),
    ],
)
def test_verdict(comparison: Comparison, start: str) -> None:
    assert verdict(comparison).startswith(start)
