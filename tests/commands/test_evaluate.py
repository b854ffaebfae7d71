from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo import cli
from spie_robo.commands import evaluate as evaluate_command
from spie_robo.commands import registry
from spie_robo.commands.base import Command
from spie_robo.data import CameraMetadata, EpisodeWriter, StoreMetadata
from spie_robo.errors import ConfigError
from spie_robo.evaluation.config import EvaluateConfig


def write_store(path: Path, side: int = 64, steps: int = 3) -> Path:
    """One episode of a moving cube, with depth and segmentation."""
    metadata = StoreMetadata(cameras={"front": CameraMetadata(names={0: "table", 1: "red cube"})})
    with EpisodeWriter.create(path, metadata) as writer:
        writer.begin_episode(seed=0)
        for step in range(steps):
            rgb, ids = np.full((side, side, 3), 150, np.uint8), np.zeros((side, side), np.int32)
            area = slice(side // 4, side // 2), slice(4 * step, 4 * step + side // 4)
            rgb[area], ids[area] = (200, 40, 40), 1
            depth = np.linspace(1.4, 0.8, side, dtype=np.float32)[:, None].repeat(side, axis=1)
            row = {"front_rgb": rgb, "front_depth": depth, "front_segmentation": ids}
            writer.append({"action": np.zeros(2, np.float32), **row})
        writer.end_episode()
    return path


def write_photos(folder: Path, seed: int, count: int = 2) -> Path:
    folder.mkdir()
    for index in range(count):
        coarse = np.random.default_rng(seed + index).integers(40, 200, (4, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(coarse, (96, 80)))
    return folder


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """``evaluate`` on a store and photos that are in order, without editors."""
    store = write_store(tmp_path / "sim.zarr")
    photos = write_photos(tmp_path / "lab", 0)
    return ["evaluate", "--frames", str(store), "--references", str(photos)]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_table_json_and_page(
    command: list[str], tmp_path: Path, tiny_pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    editor = tmp_path / "tiny editor"
    tiny_pipeline.save_pretrained(editor)
    settings = {"steps": 2, "resolution": 32, "instruction": "wood"}
    (editor / "settings.json").write_text(json.dumps(settings))
    held_out = write_photos(tmp_path / "held_out", 50)
    file, page = tmp_path / "new" / "table.json", tmp_path / "table.html"
    words = [*command, "--editors", "reinhard", str(editor), "--held-out", str(held_out)]
    words += ["--count", "2", "--seed", "5", "--json", str(file), "--page", str(page)]
    code, out, err = run(words, capsys)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["metric", "better", "raw", "reinhard"]
    assert lines[-1].startswith("Next: spie-robo convert") and "'" in lines[-1]
    assert "2 editors on 2 frames" in lines[-2] and "table.json" in lines[-2]

    record = json.loads(file.read_text())
    assert [e["name"] for e in record["editors"]] == ["raw", "reinhard", str(editor)]
    assert "@" in record["editors"][2]["id"]
    assert record["settings"]["photos"] == ["0.png", "1.png"] and record["settings"]["seed"] == 5
    assert [f["seed"] for f in record["frames"]] == [5, 6]
    assert {"semantic_nearest", "semantic_paper", "kid"} <= record["floors"].keys()
    assert "structural_simulator" in record["metrics"]
    assert page.read_text().count("data:image/") == 2 * 4


def test_surroundings_are_found_by_name_and_told(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, settings = tmp_path / "table.json", tmp_path / "settings.yaml"
    settings.write_text("feedback: {region: surroundings}\n")
    words = [*command, "--editors", "reinhard", "--config", str(settings), "--json", str(file)]
    code, out, _ = run(words, capsys)
    assert code == 0 and "region: table are to look like the photos" in out
    assert json.loads(file.read_text())["settings"]["region_names"] == ["table"]


def test_a_named_region_measures_what_lies_outside(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.json"
    words = [*command, "--editors", "reinhard", "--json", str(file)]
    words += ["--region-names", "table"]
    code, out, _ = run(words, capsys)
    assert code == 0 and "L2 outside the mask" in out
    assert json.loads(file.read_text())["settings"]["region_names"] == ["table"]


def test_frames_that_do_not_show_the_region_are_left_out_and_told(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = StoreMetadata(cameras={"front": CameraMetadata(names={0: "table", 1: "red cube"})})
    store, file = tmp_path / "some.zarr", tmp_path / "t.json"
    with EpisodeWriter.create(store, metadata) as writer:
        writer.begin_episode(seed=0)
        for step in range(3):
            ids = np.zeros((64, 64), np.int32)
            ids[:16, :16] = step > 0
            rgb = np.full((64, 64, 3), 150 + step, np.uint8)
            depth = np.ones((64, 64), np.float32)
            row = {"front_rgb": rgb, "front_depth": depth, "front_segmentation": ids}
            writer.append({"action": np.zeros(2, np.float32), **row})
        writer.end_episode()
    words = ["evaluate", "--frames", str(store), *command[3:], "--editors", "reinhard"]
    words += ["--region-names", "red cube", "--json", str(file)]
    code, out, _ = run(words, capsys)
    assert code == 0 and "region: 1 of 3 frames left out" in out
    assert json.loads(file.read_text())["settings"]["frames"] == 2


def test_a_held_out_photo_that_is_a_reference_is_left_out(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out, file = write_photos(tmp_path / "held_out", 1), tmp_path / "t.json"
    words = [*command, "--editors", "reinhard", "--held-out", str(held_out), "--json", str(file)]
    code, out, _ = run(words, capsys)
    assert code == 0 and "0.png shows the same picture as the reference 1.png" in out
    assert json.loads(file.read_text())["settings"]["held_out_photos"] == ["1.png"]
    code, _, err = run([*command, "--editors", "reinhard", "--held-out", command[-1]], capsys)
    assert code == 2 and "not among the references" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--editors", "embeded"], "Did you mean 'embedded'"),
        (["--editors", "reinhard", "reinhard"], "reinhard again"),
        (["--editors", "reinhard", "--references", "EMPTY"], "found none"),
        (["--editors", "reinhard", "--held-out", "EMPTY"], "found none"),
        (["--editors", "reinhard", "--frames", "EMPTY"], "EMPTY"),
        (["--editors", "reinhard", "--frames", "SMALL"], "32x32"),
        (["--editors", "reinhard", "--clip", "nowhere"], "CLIP 'nowhere'"),
        (["--editors", "reinhard", "--count", "1"], "count"),
        (["--editors", "reinhard", "--json", "EMPTY"], "folder"),
        (["--editors", "reinhard", "--region-names", "cub"], "red cube"),
    ],
)
def test_mistakes_are_one_line(
    change: list[str],
    message: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "EMPTY").mkdir()
    write_store(tmp_path / "SMALL", side=16)
    words = [str(tmp_path / w) if w in ("EMPTY", "SMALL") else w for w in change]
    code, out, err = run([*command, *words], capsys)
    assert code == 2 and out == ""
    complaint = [line for line in err.splitlines() if line.startswith("spie-robo: error:")]
    assert len(complaint) == 1 and message in complaint[0] and "Traceback" not in err


@pytest.mark.parametrize("editors", [(), ("",), ("a", "a")])
def test_the_record_checks_its_editors(editors: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="editors"):
        EvaluateConfig(Path("s.zarr"), Path("lab"), editors)


def test_settings_from_yaml(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[EvaluateConfig] = []
    caught: Callable[..., int] = lambda options: seen.append(options) or 0  # noqa: E731
    known = registry.COMMANDS["evaluate"]
    monkeypatch.setitem(
        registry.COMMANDS, "evaluate", Command(known.settings, caught, "", known.kept)
    )
    file = tmp_path / "e.yaml"
    file.write_text("count: 4\nfeedback:\n  depth_judge: some/model\n  rec_lambda: 0\n")
    assert cli.main([*command, "--editors", "reinhard", "--config", str(file)]) == 0
    assert seen[0].count == 4 and seen[0].feedback.depth_judge == "some/model"
    assert seen[0].feedback.rec_lambda == 0


def test_the_next_command_keeps_the_base_of_an_adapter_only(tmp_path: Path) -> None:
    adapter = tmp_path / "lab"
    adapter.mkdir()
    (adapter / "adapter_config.json").touch()
    options = EvaluateConfig(Path("s.zarr"), Path("photos"), ("embedded", str(adapter)), base="b")
    next_command = evaluate_command._next_command
    assert next_command(options, str(adapter)).endswith(
        f"--editor {adapter} --base b --references photos"
    )
    assert "--base" not in next_command(options, "embedded")
