from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spie_robo import cli
from spie_robo.commands import registry
from spie_robo.commands.base import Command
from spie_robo.commands.convert import ConvertCommand
from spie_robo.commands.record import RecordCommand
from spie_robo.data import EpisodeWriter
from spie_robo.editing.request import EditRequest
from spie_robo.errors import StoreError

DOCTOR = cli.COMMANDS["doctor"]
CONTRACT = {
    "demo": ["--out"],
    "record": ["--env", "--episodes", "--out", "--editor", "--seed", "--policy", "--zarr-format"],
    "convert": [
        "IN",
        "OUT",
        "--editor",
        "--references",
        "--instruction",
        "--seed",
        "--steps",
        "--to",
    ],
    "evaluate": ["--frames", "--references", "--editors", "--json"],
    "evaluate-proxy": ["FILE", "--json"],
    "policy train": ["STORE", "--out", "--algorithm", "--camera"],
    "policy evaluate": ["DIR", "--env", "--episodes", "--seed", "--json"],
    "doctor": ["--json", "--no-self-test"],
    "info": ["STORE"],
    "verify": ["STORE"],
    "report": ["STORE", "--out"],
    "pretrain": ["--config"],
}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command line and returns the record that the command got."""

    def run(*words: str) -> Any:
        seen: list[Any] = []
        command = registry.COMMANDS[words[0]]
        catcher = Command(
            command.settings, lambda options: seen.append(options) or 0, "", command.kept
        )
        monkeypatch.setitem(registry.COMMANDS, words[0], catcher)
        assert cli.main(words) == 0
        return seen[0]

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    with EpisodeWriter.create(path) as writer:
        writer.begin_episode(seed=3)
        for step in range(4):
            writer.append(
                {
                    "action": np.full(2, step, np.float32),
                    "front_rgb": np.full((16, 16, 3), 40 * step, np.uint8),
                }
            )
        writer.end_episode()
    return path


@pytest.mark.parametrize("command", CONTRACT)
def test_help_has_the_contract_and_fits_a_screen(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in CONTRACT[command])
    assert len(text.splitlines()) <= 45


def test_overview_lists_every_command_and_the_common_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--help"], []):
        assert cli.main(words) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in (*registry.COMMANDS, "--config", "--debug"))


def test_contract_command_lines_parse(parsed: Callable[..., Any]) -> None:
    line = "record --env E-v0 --episodes 5 --out S.zarr --editor e --seed 7"
    line += " --policy random --zarr-format 2"
    assert parsed(*line.split()) == RecordCommand(
        env="E-v0",
        episodes=5,
        out=Path("S.zarr"),
        policy="random",
        zarr_format=2,
        edit=EditRequest(editor="e", seed=7),
    )
    line = "convert IN OUT --editor E --references D --instruction lab --seed 1 --steps 4"
    line += " --cameras a b"
    edit = EditRequest("E", references=Path("D"), instruction="lab", seed=1, steps=4)
    assert parsed(*line.split()) == ConvertCommand(
        Path("IN"), Path("OUT"), cameras=("a", "b"), edit=edit
    )


def test_record_stays_raw_without_an_editor(parsed: Callable[..., Any]) -> None:
    assert parsed(*"record --env E --episodes 1 --out S".split()).edit.editor is None


def test_flags_win_over_the_config_file(parsed: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("env: A-v0\nepisodes: 9\nedit: {seed: 4, guard: false}\n")
    options = parsed("record", "--config", str(file), "--episodes", "2", "--out", "S")
    assert (options.env, options.episodes) == ("A-v0", 2)
    assert (options.edit.seed, options.edit.guard) == (4, False)
    assert parsed("record", f"--config={file}", "--out", "S").episodes == 9


def test_pretrain_reads_its_file_as_a_record_of_its_own(parsed: Callable[..., Any]) -> None:
    options = parsed("pretrain", "--config", "p.yaml", "--threads", "1")
    assert (options.config, options.threads, options.out) == (Path("p.yaml"), 1, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recrod"], "Did you mean 'record'?"),
        (["zzz"], "Known: demo, record"),
        (["info", "nowhere.zarr"], "nowhere.zarr"),
        (["report", "nowhere.zarr", "--out", "r.html"], "nowhere.zarr"),
        (["convert", "nowhere.zarr", "out.zarr"], "nowhere.zarr"),
        (["record", "--env", "E", "--episodes", "0", "--out", "S"], "episodes: expected 1 or more"),
        (["record", "--config"], "--config: expected a YAML file"),
        (["record", "--config", "none.yaml"], "no such file"),
        (["pretrain", "--config", "none.yaml"], "no such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("spie-robo: error: ") and message in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("record --env E --episodes x --out S", "--episodes"),
        ("record --env E --episodes 1", "--out"),
        ("record --env E --episods 1 --episodes 1 --out S", "--episodes"),
        ("record --env E --episodes 1 --out S --zarr-format 4", "--zarr-format"),
        ("info", "STORE"),
    ],
)
def test_wrong_flags_exit_with_2_and_name_the_flag(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    assert message in capsys.readouterr().err


def replace_run(monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[[Any], int]) -> None:
    old = registry.COMMANDS[name]
    new = Command(old.settings, run, old.summary, old.kept)
    monkeypatch.setitem(registry.COMMANDS, name, new)


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: Any) -> int:
        raise StoreError("expected this,\n  got that.")

    replace_run(monkeypatch, "info", fail)
    assert cli.main(["info", "S"]) == 2
    assert capsys.readouterr().err == "spie-robo: error: expected this, got that.\n"
    assert cli.main(["info", "S", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_other_exceptions_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: Any) -> int:
        raise ZeroDivisionError

    replace_run(monkeypatch, "info", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info", "S"])


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("record --env E --episodes 1 --out S.zarr", "finished episodes are in S.zarr"),
        ("record --env E --episodes 1 --out T.zarr", "no episode was finished"),
        ("convert A B", "run the same command again to go on"),
        ("info S", "nothing was written"),
    ],
)
def test_interrupt_says_what_is_kept(
    line: str,
    kept: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupt(options: Any) -> int:
        raise KeyboardInterrupt

    (tmp_path / "S.zarr").mkdir()
    monkeypatch.chdir(tmp_path)
    words = line.split()
    replace_run(monkeypatch, words[0], interrupt)
    assert cli.main(words) == 130
    assert kept in capsys.readouterr().err


def test_info_verify_and_report_of_a_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", str(store)]) == 0
    assert "front_rgb" in capsys.readouterr().out
    assert cli.main(["verify", str(store)]) == 0
    assert "intact" in capsys.readouterr().out
    page = tmp_path / "r.html"
    assert cli.main(["report", str(store), "--out", str(page)]) == 0
    assert page.stat().st_size > 1000
    assert str(page) in capsys.readouterr().out


def test_verify_exits_with_1_on_damage(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [file for file in (store / "data" / "front_rgb").rglob("*") if file.is_file()]
    chunk = next(file for file in files if file.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 0xFF
    chunk.write_bytes(content)
    assert cli.main(["verify", str(store)]) == 1
    assert "front_rgb" in capsys.readouterr().out


def test_installed_command_runs(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("spie-robo")
    done = subprocess.run(
        [script, "recrod"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "spie-robo: error: 'recrod' is no command. Did you mean 'record'?\n"


@pytest.mark.parametrize("words", [["--help"], ["info", "STORE"]])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path, words):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"front_rgb": np.zeros((3, 16, 16, 3), np.uint8)})
    words = [str(tmp_path / "s.zarr") if word == "STORE" else word for word in words]
    running = subprocess.Popen(
        [sys.executable, "-m", "spie_robo.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,  # not where a folder is called spie_robo
    )
    with running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()  # as `| head` does, here before the first line
        told = running.stderr.read().decode()
    assert (running.returncode, told) == (141, "")


def test_another_broken_pipe_is_not_taken_for_that(monkeypatch):
    def broken(*_):
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setitem(cli.COMMANDS, "doctor", dataclasses.replace(DOCTOR, run=broken))
    with pytest.raises(BrokenPipeError, match="a worker is gone"):
        cli.main(["doctor", "--no-self-test"])


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"spie-robo {version('spie-robo')}\n"
