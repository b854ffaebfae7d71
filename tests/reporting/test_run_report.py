"""The page of a training run, from the files that ``spie-robo train`` leaves."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo.commands.report import ReportCommand, report
from spie_robo.data import EpisodeWriter
from spie_robo.data.formats import limits
from spie_robo.errors import ConfigError
from spie_robo.reporting import curves, write_run_report
from spie_robo.reporting import run_collect as collecting
from spie_robo.reporting.run_collect import collect_run, is_run, read_history
from spie_robo.reporting.run_content import Chart, Line


def rows(epochs: int) -> list[dict[str, float | None]]:
    base = {"epoch": 0, "preview_semantic": 0.6, "preview_structural": 0.2, "photos_apart": 0.2,
            "preview_accepted": 1.0, "preview_accepted/front": 1.0}  # fmt: skip
    later = [
        {"epoch": n, "preview_semantic": round(0.6 - 0.01 * n, 4),
         "preview_structural": 0.2 - 0.001 * n, "preview_accepted": 0.9,
         "preview_accepted/front": 0.9, "loss": 1 / n, "seconds": 30.0}
        for n in range(1, epochs + 1)
    ]  # fmt: skip
    return [base, *later]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ten epochs, with pictures, a card, and a name that must be escaped."""
    folder = tmp_path / "<b>lab"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "history.json").write_text(json.dumps(rows(10)))
    for epoch in range(1, 11):
        picture = np.full((64, 128, 3), 20 * epoch, np.uint8)
        cv2.imwrite(str(folder / "logs" / f"epoch_{epoch:05d}.png"), picture)
    (folder / "README.md").write_text(
        "# A card\n\n- **Method**: SPIE,\n  ten epochs.\n- **Photos**: <i>five</i>\n\nThe end.\n"
    )
    return folder


def test_the_page_has_scores_pictures_and_rows(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "run.html"
    assert write_run_report(run, out) == out
    page = out.read_text("utf-8")
    assert [file.name for file in out.parent.iterdir()] == ["run.html"]
    for title in (
        "Semantic score",
        "Nearer to your photos",
        "Structural score",
        "Accepted by the guard",
    ):
        assert f">{title} by epoch</title>" in page
    assert "edits: 0.6 at epoch 0, 0.5 at epoch 10. how far your photos are apart: 0.2." in page
    assert "edits, epoch 10: 17%<" in page and page.count(">epoch</text>") == 4
    assert "edits, epoch 10: 0.5<" in page and "front, epoch 3: 90%<" in page
    assert page.count('class="epoch"') == 10 and "Preview frames after epoch 10" in page
    assert (
        "Nearer to your photos</dt><dd>17%<small>than the base; two photos are 0.2000 apart" in page
    )
    assert "5.0 minutes" in page and "SPIE, ten epochs." in page


def test_it_needs_nothing_from_elsewhere_and_escapes(run: Path, tmp_path: Path) -> None:
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(|<link\b|src=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert "&lt;b&gt;lab" in page and "<b>lab" not in page
    assert "&lt;i&gt;five" in page


def test_the_command_tells_runs_from_stores(run: Path, edited_store: Path, tmp_path: Path) -> None:
    assert is_run(run) and not is_run(edited_store) and not is_run(tmp_path / "nowhere")
    assert not is_run("s3://bucket/store.zarr")
    out = tmp_path / "run.html"
    assert report(ReportCommand(run, out)) == out
    assert "training report" in out.read_text("utf-8")
    assert report(ReportCommand(edited_store, out)) == out
    assert "episode report" in out.read_text("utf-8")


def test_a_run_is_no_recording(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a page: FILE\.html"):
        report(ReportCommand(run, tmp_path / "run.rrd"))
    assert not (tmp_path / "run.rrd").exists()


def test_a_run_before_its_first_epoch_says_so(run: Path, tmp_path: Path) -> None:
    (run / "logs" / "history.json").unlink()
    (run / "checkpoints").mkdir()
    out = tmp_path / "run.html"
    with pytest.raises(ConfigError, match=r"history\.json: not there.*first epoch is over"):
        report(ReportCommand(run, out))
    assert not out.exists()


@pytest.mark.parametrize("part", ["checkpoints/step_0000500/complete.json", "policy.safetensors"])
def test_the_folder_of_a_policy_has_no_report(tmp_path: Path, part: str) -> None:
    for name in ("checkpoints/x", part):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).touch()
    with pytest.raises(ConfigError, match=r"this is a policy's.*tensorboard --logdir .*p/logs"):
        report(ReportCommand(tmp_path / "p", tmp_path / "page.html"))


@pytest.mark.parametrize("part", ["logs", "logs/history.json", "checkpoints/epoch_00002/adapter"])
def test_a_part_of_a_run_is_told_from_a_run(run: Path, tmp_path: Path, part: str) -> None:
    (run / part).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ConfigError, match=re.escape(f"Give the run's folder: {run}")):
        report(ReportCommand(run / part, tmp_path / "run.html"))


def test_a_store_inside_a_run_is_a_store(run: Path, tmp_path: Path) -> None:
    inside = run / "edited.zarr"
    with EpisodeWriter.create(inside) as writer:
        writer.begin_episode()
        writer.append({"front_rgb": np.zeros((8, 8, 3), np.uint8)})
        writer.end_episode()
    assert report(ReportCommand(inside, tmp_path / "run.html")).exists()


def test_a_run_that_is_not_finished_says_so(run: Path, tmp_path: Path) -> None:
    assert "10 epochs so far" in collect_run(run).notes[0]
    marker = run / "checkpoints" / "epoch_00010" / "complete.json"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"settings": {"epochs": 12}}')
    (run / "adapter_config.json").touch()
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    assert "Not finished: 10 of 12 epochs." in page
    for text in ('{"settings": {"epochs": 10}}', "{", "[" * 100_000, '{"settings": 3}'):
        marker.write_text(text)
        assert collect_run(run).notes == ()


def test_the_base_alone_is_a_page(run: Path, tmp_path: Path) -> None:
    (run / "logs" / "history.json").write_text(json.dumps(rows(0)))
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    assert "0 epochs so far" in page and "edits, epoch 0: 0.6<" in page
    assert "No pictures of epochs" in page


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"epoch": 0}, {"epoch": 1e300}]', "expected epochs from 0 to 99999"),
        ('[{"epoch": 0}, {"epoch": 1000000000000}]', "expected epochs from 0 to 99999"),
        ('[{"epoch": 0}, {"epoch": 1.5}]', "expected epochs from 0 to 99999, got 1.5"),
        ('[{"epoch": null}]', "expected an epoch in every row"),
        ("[{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "expected a list of rows"),
        ("[]", "expected a list of rows"),
        ("[1]", "expected a list of rows"),
        ('[{"loss": 1}]', "expected an epoch in every row"),
        ('[{"epoch": 0, "loss": "low"}]', "'loss': expected a number, got 'low'"),
        ('[{"epoch": 0, "loss": true}]', "expected a number, got True"),
        ('[{"epoch": 0}, {"epoch": 2}, {"epoch": 1}]', "epochs that ascend from 0"),
        ('[{"epoch": 1}]', "epochs that ascend from 0"),
    ],
)
def test_damaged_histories_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "history.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(file))) as caught:
        read_history(file)
    assert reason in str(caught.value)


def test_an_absurdly_large_history_is_not_read(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "history.json"
    file.write_text(json.dumps(rows(10)))
    monkeypatch.setattr(collecting, "LARGEST_HISTORY", 100)
    with pytest.raises(ConfigError, match="expected at most"):
        read_history(file)


def test_a_table_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "history.json"
    file.write_text(json.dumps([{"epoch": n, f"key{n}": 1} for n in range(40)]))
    assert len(read_history(file)) == 40
    monkeypatch.setattr(collecting, "MAX_CELLS", 1000)
    with pytest.raises(ConfigError, match=f"at most 1000 numbers, got {40 * 41}"):
        read_history(file)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e308", "-1e308", "Infinity", "1e-320"])
def test_numbers_at_the_edge_of_what_floats_hold(run: Path, tmp_path: Path, value: str) -> None:
    names = ("preview_semantic", "preview_accepted", "photos_apart")
    other = value[1:] if value.startswith("-") else f"-{value}"
    first, second = (", ".join(f'"{name}": {v}' for name in names) for v in (value, other))
    history = f'[{{"epoch": 0, {first}}}, {{"epoch": 1, {second}}}]'
    (run / "logs" / "history.json").write_text(history)
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    places = re.findall(r'<path class="line[^"]*" d="([^"]*)"', page)
    places += re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', page)
    assert not re.search("nan|inf", str(places))


def test_what_is_not_finite_leaves_a_gap(run: Path) -> None:
    broken = rows(4)
    broken[2]["preview_semantic"] = math.nan
    broken[3]["preview_semantic"] = None
    (run / "logs" / "history.json").write_text(json.dumps(broken))
    content = collect_run(run)
    assert content.charts[0].lines[0].values == (0.6, pytest.approx(0.59), None, None, 0.56)
    curve = curves.draw(content.charts[0], content.epochs).curves[0]
    assert curve.path.count("M") == 2 and len(curve.dots) == 3
    assert curves.draw(content.charts[0], content.epochs).gaps == "No value at epoch 2, 3."


def test_keys_that_a_history_lacks_cost_a_tile_and_no_page(run: Path, tmp_path: Path) -> None:
    (run / "logs" / "history.json").write_text('[{"epoch": 0}, {"epoch": 1, "loss": 0.5}]')
    content = collect_run(run)
    assert [tile.label for tile in content.tiles] == ["Epochs"]
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    assert "0.5" in page and "<svg" not in page
    assert "Nothing to draw: logs/history.json has no preview_structural." in page


def test_how_much_nearer_does_not_depend_on_how_far_the_photos_are_apart(run: Path) -> None:
    history = rows(2)
    seen = set()
    for floor in (None, 0.2, 0.6, 0.7):
        history[0]["photos_apart"] = floor
        (run / "logs" / "history.json").write_text(json.dumps(history))
        content = collect_run(run)
        seen.add(content.charts[1].lines[0].values)
        assert "Nearer to your photos" in [tile.label for tile in content.tiles]
    assert len(seen) == 1 and None not in seen.pop()


def test_lines_on_each_other_and_shares_beyond_the_whole() -> None:
    same = (Line("front", (1.0, 1.0)), Line("wrist", (1.0, 1.0)))
    drawing = curves.draw(Chart("t", "n", same, "k", percent=True), [0, 1])
    assert [curve.width for curve in drawing.curves] == [4, 2]
    worse = Chart("t", "n", (Line("l", (0.0, -0.2)),), "k", percent=True)
    assert [label for _, label in curves.draw(worse, [0, 1]).y_ticks] == [
        "-50%", "0%", "50%", "100%",
    ]  # fmt: skip


def test_pictures_are_an_even_choice_and_damage_is_told(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "MAX_PICTURES", 4)
    (run / "logs" / "epoch_00007.png").write_bytes(b"no picture")
    content = collect_run(run)
    assert [picture.epoch for picture in content.pictures] == [1, 4, 10]
    assert (
        "One epoch of 3 is shown" in content.picture_note
        and "epoch_00007.png" in content.picture_note
    )


def test_pictures_that_are_missing_or_lead_elsewhere_are_told(run: Path, tmp_path: Path) -> None:
    logs = run / "logs"
    (logs / "epoch_00003.png").unlink()
    secret = tmp_path / "secret.png"
    (logs / "epoch_00004.png").rename(secret)
    (logs / "epoch_00004.png").symlink_to(secret)
    content = collect_run(run)
    assert [picture.epoch for picture in content.pictures] == [1, 2, 5, 6, 7, 8, 9, 10]
    assert "No picture of epoch 3." in content.picture_note
    assert "leads out of" in content.picture_note


def test_a_picture_is_measured_before_it_is_unpacked(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    content = collect_run(run)
    assert not content.pictures and "at most 100 are accepted" in content.picture_note


def test_frames_bounds_the_pictures_of_a_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    assert report(ReportCommand(run, out, frames=2)) == out
    assert re.findall(r'data-epoch="(\d+)"', out.read_text("utf-8")) == ["5", "10"]


def test_without_pictures_and_card_the_scores_are_shown(run: Path, tmp_path: Path) -> None:
    for file in [*run.glob("logs/*.png"), run / "README.md"]:
        file.unlink()
    page = write_run_report(run, tmp_path / "run.html").read_text("utf-8")
    assert "No pictures of epochs were found" in page and "the run is not finished" in page
    assert 'id="epoch"' not in page


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.51, 0.6], [0.5, 0.525, 0.55, 0.575, 0.6]),
        ([3.0], [3.0, 3.01]),
        ([0.0, 1000.0], [0, 250, 500, 750, 1000]),
        ([], [0, 1]),
        ([-1.0, 1.0], [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_marks_are_round_and_enclose_the_values(values, marks) -> None:
    assert curves.round_marks(values) == pytest.approx(marks)


def test_places_on_the_canvas_by_hand() -> None:
    chart = Chart("t", "n", (Line("l", (0.0, 1.0)), Line("m", (0.5, 0.5), dashed=True)), "k", True)
    drawing = curves.draw(chart, [0, 10])
    first, level = drawing.curves
    bottom, right = curves.HEIGHT - curves.BOTTOM, curves.WIDTH - curves.RIGHT
    assert first.path == f"M{curves.LEFT}.0,{bottom}.0L{right}.0,{curves.TOP}.0"
    assert level.dashed and level.dots[0][1] == (bottom + curves.TOP) / 2
    assert [label for _, label in drawing.y_ticks] == ["0%", "25%", "50%", "75%", "100%"]
    assert [label for _, label in drawing.x_ticks] == ["0", "10"]
