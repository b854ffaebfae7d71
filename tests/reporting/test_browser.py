"""The page in headless Chromium: it draws, follows its controls, and is what the address says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo.reporting import write_report, write_run_report

CHROMIUM = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.slow,
]

# Uses the controls as a person does and writes what it saw into the document.
PROBE = """
<script>
addEventListener("load", () => {
  const out = {}, root = document.documentElement.dataset;
  const set = (node, value) => { node.value = value; node.dispatchEvent(new Event("input")); };
  const time = document.getElementById("time"), split = document.querySelector(".compare input");
  const source = () => document.querySelector(".compare .edited").src;
  const first = source();
  set(time, 3);
  out.moved = source() !== first;
  set(split, 80);
  out.split = root.split;
  out.clip = getComputedStyle(document.querySelectorAll(".compare .raw")[1]).clipPath;
  split.focus();
  out.focus = document.activeElement === split && split.tabIndex === 0;
  document.getElementById("outlines").click();
  out.outline = document.querySelector(".outline path").getAttribute("d").length > 20;
  const choice = document.getElementById("episode");
  choice.value = "1";
  choice.dispatchEvent(new Event("change"));
  out.episode = root.episode;
  const chart = document.getElementById("chart"), box = chart.getBoundingClientRect();
  const end = { clientX: box.right - 12, clientY: box.top + 20 };
  chart.dispatchEvent(new PointerEvent("pointerdown", end));
  out.step = root.step;
  const strip = document.querySelectorAll("#strip button");
  strip[0].click();
  out.strip = `${strip.length} ${root.episode} ${strip[0].getAttribute("aria-pressed")}`;
  set(document.querySelector(".compare input"), 75);
  for (const event of [new PointerEvent("pointerdown"), new MouseEvent("dblclick")])
    document.querySelector(".compare input").dispatchEvent(event);
  out.swapped = root.split;
  out.sharp = getComputedStyle(document.querySelector(".compare img")).imageRendering;
  out.wide = document.documentElement.scrollWidth <= innerWidth;
  document.body.dataset.probe = JSON.stringify(out);
});
</script>
"""


def dom(page: Path, address: str, profile: Path, size: str = "1200,1600") -> str:
    """The document after its scripts ran."""
    assert CHROMIUM is not None
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync "
        f"--user-data-dir={profile} --window-size={size} --virtual-time-budget=2000 --dump-dom"
    )
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"file://{page}{address}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr or "Uncaught" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page(edited_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(edited_store, tmp_path_factory.mktemp("page") / "r.html", frames=10)


def test_address_chooses_the_moment(page: Path, tmp_path: Path) -> None:
    text = dom(page, "#episode=1&step=7&split=30&outlines=1", tmp_path)
    root = re.search(r"<html[^>]*>", text)
    assert root is not None
    for shown in ('state="ready"', 'episode="1"', 'step="7"', 'split="30"', 'outlines="1"'):
        assert f"data-{shown}" in root[0]
    assert "edit rejected, raw frame used" in text
    assert "<title>SpieRobo/Push-v0 · episode report</title>" in text
    assert text.count('class="line"') == 2


@pytest.mark.parametrize("size", ["1200,1600", "500,900"])
def test_controls(page: Path, tmp_path: Path, size: str) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text("utf-8").replace("</body>", PROBE + "</body>"), "utf-8")
    text = dom(probed, "", tmp_path / "profile", size)
    found = re.search(r'data-probe="([^"]*)"', text)
    assert found is not None
    assert found[1].replace("&quot;", '"') == (
        '{"moved":true,"split":"80","clip":"inset(0px 0px 0px 80%)","focus":true,'
        '"outline":true,"episode":"1","step":"23","strip":"2 0 true","swapped":"25",'
        '"sharp":"pixelated","wide":true}'
    )


RUN_PROBE = """
<script>
addEventListener("load", () => {
  const out = {}, slider = document.getElementById("epoch");
  const seen = () => [...document.querySelectorAll("img.epoch")].filter(
    (image) => image.getBoundingClientRect().height > 0).map((image) => image.dataset.epoch).join();
  out.first = seen();
  slider.focus();
  out.focus = document.activeElement === slider;
  slider.stepDown();
  slider.dispatchEvent(new Event("input"));
  out.moved = seen();
  out.clock = document.getElementById("epoch-clock").textContent;
  out.named = [...document.querySelectorAll("svg[role=img]")].every((svg) =>
    svg.getAttribute("aria-labelledby").split(" ").every((id) => svg.querySelector(`#${id}`)));
  out.wide = document.documentElement.scrollWidth <= innerWidth;
  document.body.dataset.probe = JSON.stringify(out);
});
</script>
"""


@pytest.mark.parametrize("size", ["1200,1600", "500,900"])
def test_slider_over_the_epochs_of_a_run(tmp_path: Path, size: str) -> None:
    logs = tmp_path / "lab" / "logs"
    logs.mkdir(parents=True)
    scores = {"preview_semantic": 0.5, "preview_structural": 0.1, "preview_accepted": 1}
    rows = [{"epoch": n, **scores, **{f"key {k}": k for k in range(20)}} for n in range(4)]
    (logs / "history.json").write_text(json.dumps(rows))
    for epoch in (1, 2, 3):
        cv2.imwrite(str(logs / f"epoch_0000{epoch}.png"), np.full((64, 128, 3), 60 * epoch))
    page = write_run_report(tmp_path / "lab", tmp_path / "run.html")
    page.write_text(page.read_text("utf-8").replace("</body>", RUN_PROBE + "</body>"), "utf-8")
    found = re.search(r'data-probe="([^"]*)"', dom(page, "", tmp_path / "profile", size))
    assert found is not None
    assert json.loads(found[1].replace("&quot;", '"')) == {
        "first": "3", "focus": True, "moved": "2", "clock": "epoch 2", "named": True, "wide": True,
    }  # fmt: skip
