"""Runs write curves where TensorBoard is installed and go on where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from spie_robo.errors import ConfigError
from spie_robo.files.curves import open_curves


def test_points_come_back_without_those_of_a_later_try(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, values in ((1, [0.5, 0.4, 0.3]), (2, [0.2])):
        with open_curves(tmp_path, first) as add_point:
            for step, value in enumerate(values, first):
                add_point("loss", value, step)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    points = [(point.step, round(point.value, 3)) for point in events.Scalars("loss")]
    assert points == [(1, 0.5), (2, 0.2)]


def test_without_tensorboard_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with open_curves(tmp_path / "logs", 1) as add_point:
        add_point("loss", 0.5, 1)
    assert not (tmp_path / "logs").exists()
    assert capsys.readouterr().err.count("pip install 'spie-robo[tensorboard]'") == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"file/logs: the log cannot be written there"),
        open_curves(tmp_path / "file" / "logs", 1),
    ):
        pass
