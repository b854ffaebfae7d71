"""What is in the page; :mod:`test_browser` opens it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spie_robo.data import EpisodeStore, EpisodeWriter
from spie_robo.errors import ConfigError, StoreError
from spie_robo.reporting import collect as collecting
from spie_robo.reporting import write_report
from spie_robo.reporting.images import LONGEST_SIDE, data_uri, outline_path

STEPS, REJECTED, FAILED = 24, 7, 15


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def decode(address: str) -> np.ndarray:
    encoded = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def page(edited_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "sub" / "report.html"
    assert write_report(edited_store, out, frames=10) == out
    assert [file.name for file in out.parent.iterdir()] == ["report.html"]
    return out.read_text("utf-8")


def test_needs_nothing_from_elsewhere(page: str) -> None:
    without_namespace = page.replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|@import|url\(", without_namespace)
    assert not re.search(r"<link\b|<script[^>]+src=|<img[^>]+src=", page)
    assert "default-src 'none'" in page


def test_text_of_the_store_is_escaped(page: str) -> None:
    assert '<script>document.title="owned"' not in page
    assert "&lt;/script&gt;&lt;script&gt;" in page


def test_images_are_the_frames_of_the_store(page: str, edited_store: Path) -> None:
    episode = data_of(page)["episodes"][1]
    rows = EpisodeStore.open(edited_store)[1]
    front = episode["cameras"][0]
    assert front["name"] == "front"
    assert len(episode["shown"]) == len(front["raw"]) == len(front["edited"])
    for index, step in enumerate(episode["shown"]):
        for kind, key in (("raw", "front_raw"), ("edited", "front_rgb")):
            difference = decode(front[kind][index]).astype(int) - rows[key][step]
            assert abs(difference).mean() < 4


def test_frames_that_went_wrong_are_always_shown(page: str) -> None:
    for episode in data_of(page)["episodes"]:
        assert {0, STEPS - 1, REJECTED, FAILED} <= set(episode["shown"])
        assert len(episode["shown"]) <= 10


def test_verdicts_and_measurements_of_every_step(page: str) -> None:
    data = data_of(page)
    front = data["episodes"][0]["cameras"][0]
    assert front["verdicts"][REJECTED] == "rejected"
    assert front["verdicts"][FAILED] == "failed"
    assert front["verdicts"].count("edited") == STEPS - 2
    assert front["measurements"]["depth_error"][FAILED] is None
    assert front["measurements"]["depth_error"][REJECTED] > 0.2
    assert front["measurements"]["chroma_drift"] == [None] * STEPS
    limits = {budget["name"]: budget["limit"] for budget in data["budgets"]}
    assert limits["depth_error"] == 0.2 and limits["displacement_px"] == 3.0


def test_summary_counts_the_whole_store(page: str) -> None:
    # 2 episodes x 2 cameras x 24 steps, one rejected and one failed frame in each.
    assert "88 of 96 frames" in page and "91.7 %" in page
    assert "1 of 2" in page and "fake@0123ab" in page


def test_store_without_edits(tmp_path: Path) -> None:
    path = tmp_path / "raw.zarr"
    with EpisodeWriter.create(path) as writer:
        writer.begin_episode()
        for _ in range(3):
            writer.append({"top_rgb": np.full((20, 30, 3), 90, np.uint8)})
        writer.end_episode()
    text = write_report(path, tmp_path / "r.html").read_text("utf-8")
    camera = data_of(text)["episodes"][0]["cameras"][0]
    assert camera["verdicts"] == ["raw"] * 3 and camera["outlines"] == []
    assert (camera["width"], camera["height"]) == (30, 20)
    assert "the frames were not edited" in text


def test_page_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.zarr"
    noise = np.random.default_rng(0)
    with EpisodeWriter.create(path) as writer:
        for _ in range(14):
            writer.begin_episode()
            frames = noise.integers(0, 255, (12, 96, 96, 3), dtype=np.uint8)
            writer.extend({"front_rgb": frames})
            writer.end_episode()
    monkeypatch.setattr(collecting, "IMAGE_BYTES", 400_000)
    out = write_report(path, tmp_path / "r.html")
    data = data_of(out.read_text("utf-8"))
    assert len(data["episodes"]) == collecting.MAX_EPISODES
    assert all(2 <= len(episode["shown"]) < 12 for episode in data["episodes"])
    assert out.stat().st_size < 700_000
    assert "The first 12 of 14 episodes are shown." in out.read_text("utf-8")


def test_nothing_to_show_and_nowhere_to_write(edited_store: Path, tmp_path: Path) -> None:
    EpisodeWriter.create(tmp_path / "empty.zarr").close()
    with pytest.raises(StoreError, match="finished episodes"):
        write_report(tmp_path / "empty.zarr", tmp_path / "r.html")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(edited_store, tmp_path / "file" / "r.html", frames=2)
    assert not (tmp_path / "r.html").exists()


def test_large_frames_are_shrunk() -> None:
    image = decode(data_uri(np.zeros((300, 960, 3), np.uint8)))
    assert image.shape == (150, LONGEST_SIDE, 3)


def test_outlines_follow_pixel_edges() -> None:
    segmentation = np.zeros((4, 5), np.int32)
    segmentation[1:3, 2:4] = 7
    assert set(re.findall(r"M[^M]+", outline_path(segmentation))) == {
        "M2 1H4",
        "M2 3H4",
        "M2 1V3",
        "M4 1V3",
    }
    assert outline_path(np.zeros((4, 4), np.int32)) == ""
