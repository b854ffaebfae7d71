from __future__ import annotations

from pathlib import Path

import pytest

from spie_robo.errors import ConfigError
from spie_robo.evaluation.proxy_csv import read_proxy_table

GOOD = "policy,real,sim\na,0.1,0.2\nb,0.5,0.4\nc,0.9,0.7\n"


def test_columns_and_episodes(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(
        "﻿sim, policy ,real_episodes,real,sim_edited\n"
        '0.2,"a, small",20,0.1,0.3\n'
        "\n"
        "0.4,b,20.0,0.5,0.4\n"
        "1,c,10,0,.7\n",
        encoding="utf-8",
    )
    table = read_proxy_table(file)
    assert table.policies == ("a, small", "b", "c")
    assert table.real.rates.tolist() == [0.1, 0.5, 0]
    assert table.real.episodes is not None and table.real.episodes.tolist() == [20, 20, 10]
    assert [column.name for column in table.simulators] == ["sim", "sim_edited"]
    assert table.simulators[0].rates.tolist() == [0.2, 0.4, 1]
    assert table.simulators[0].episodes is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["line 1", "got nothing", "policy and real and sim"]),
        ("policy,real\na,0.1\n", ["line 1", "Add sim", "got policy, real"]),
        ("policy|real|sim\na|0.1|0.2\n", ["line 1", "separated by commas or semicolons"]),
        (GOOD.replace("0.5", "half"), ["line 3, real", "'half'", "0..1"]),
        (GOOD.replace("0.5", ""), ["line 3, real", "''"]),
        (GOOD.replace("0.5", "50%"), ["line 3, real", "0.85 for 85 %"]),
        (GOOD.replace("0.7", "70"), ["line 4, sim", "85 % is 0.85", "15 of 20 is 0.75"]),
        (GOOD.replace("0.7", "15/20"), ["line 4, sim", "Write 0.75 for 15/20"]),
        (
            "policy,real,real_episodes,sim\na,15,20,0.2\nb,5,20,0.4\nc,1,20,1\n",
            ["line 2, real", "15 of 20 episodes is 0.75"],
        ),
        (GOOD.replace("0.7", "-0.1"), ["line 4, sim", "got -0.1"]),
        (GOOD.replace("0.7", "700"), ["line 4, sim", "got 700"]),
        (GOOD.replace("0.7", "nan"), ["line 4, sim", "not finite"]),
        (GOOD.replace("c,", "a,"), ["line 4", "'a'", "line 2"]),
        (GOOD.replace("c,", ","), ["line 4", "policy's name"]),
        (GOOD.replace("c,0.9", "c,0,9"), ["line 4", "3 cells", "got 4"]),
        (GOOD.rpartition("c,")[0], ["3 or more policies, got 2"]),
        (GOOD.replace("real,sim", "real,sim,sim"), ["line 1", "name of its own"]),
        (GOOD.replace("sim\n", "sim,\n"), ["line 1", "name of its own"]),
        (GOOD.replace("sim\n", "sim,other_episodes\n"), ["line 1", "'other'", "does not exist"]),
        (GOOD.replace("policy", "policy_episodes,policy"), ["line 1", "'policy'", "no success"]),
        ("policy,real,sim\na,1,0\nb,1,1\nc,1,0\n", ["real", "all 3 have 1", "worse policies"]),
        (GOOD.replace("a,0.1,0.2", '"a,0.1,0.2'), ["CSV file in UTF-8"]),
    ],
)
def test_errors_name_file_line_and_way_out(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_proxy_table(file)
    assert all(part in str(caught.value) for part in [str(file), *parts]), caught.value


@pytest.mark.parametrize("count", ["0", "2.5", "many", "inf", "-3", "1e19", "1e300", "nan"])
def test_episodes_are_whole_numbers(tmp_path: Path, count: str) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(f"policy,real,sim,sim_episodes\na,0.1,0.2,5\nb,0.5,0.4,{count}\nc,0.9,0.7,5\n")
    with pytest.raises(ConfigError, match=r"line 3, sim_episodes: expected a .*of episodes"):
        read_proxy_table(file)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read"):
        read_proxy_table(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_proxy_table(tmp_path)
    binary = tmp_path / "rates.csv"
    binary.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="CSV file in UTF-8"):
        read_proxy_table(binary)


@pytest.mark.parametrize(("separator", "point"), [(";", ","), (";", "."), ("\t", ","), (",", ".")])
def test_tables_as_spreadsheets_of_other_countries_write_them(
    tmp_path: Path, separator: str, point: str
) -> None:
    file = tmp_path / "rates.csv"
    text = GOOD.replace(",", separator)
    file.write_text(text.replace(".", point))
    table = read_proxy_table(file)
    assert table.real.rates.tolist() == [0.1, 0.5, 0.9]
    assert table.simulators[0].rates.tolist() == [0.2, 0.4, 0.7]
