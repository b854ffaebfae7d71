"""Each script of ``examples/`` runs, at a small size, and leaves behind what it says."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo import EpisodeStore

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
ELSEWHERE = "export_frames"
"""Runs in an environment of its own, without this package: benchmarks/simulators.py tries it."""


def load(name: str) -> Callable[..., None]:
    """The ``main`` of an example, without running it."""
    main: Callable[..., None] = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    return main


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_is_short_and_says_how_to_run_it(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) < 80
    assert f"python examples/{script.name}" in text.split('"""')[1]


def test_all_are_tested() -> None:
    names = {script.stem for script in SCRIPTS}
    assert names == {
        "convert_dataset",
        "export_frames",
        "mujoco_env",
        "train_on_lab_photos",
        "train_policy",
        "wrap_env",
    }


@pytest.mark.slow
def test_wrap_env(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("wrap_env")(tmp_path / "pictures", env_id="SpieRobo/Reach-v0", steps=1)
    for camera in ("front", "wrist"):
        picture = cv2.imread(str(tmp_path / "pictures" / f"{camera}.png"))
        assert picture is not None and picture.shape == (128, 256, 3)
        left, right = picture[:, :128].astype(int), picture[:, 128:].astype(int)
        assert np.abs(left - right).mean() > 2
    assert "of 2 edits" in capsys.readouterr().out


@pytest.mark.slow
def test_convert_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("convert_dataset")(tmp_path, episodes=1, max_steps=3)
    raw, edited = (EpisodeStore.open(tmp_path / f"{name}.zarr") for name in ("raw", "edited"))
    before, after = next(iter(raw)), next(iter(edited))
    np.testing.assert_array_equal(before["action"], after["action"])
    np.testing.assert_array_equal(before["front_rgb"], after["front_raw"])
    assert (after["front_rgb"] != after["front_raw"]).any()
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "Episode 0, front: 3 frames" in capsys.readouterr().out


@pytest.mark.slow
def test_train_on_lab_photos(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(40, 200, (4, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{seed}.png"), cv2.resize(coarse, (128, 96)))
    load("train_on_lab_photos")(photos, tmp_path / "lab", epochs=1, inputs=2, edits=2, episodes=1)
    assert (tmp_path / "lab" / "editor" / "adapter_config.json").is_file()
    picture = cv2.imread(str(tmp_path / "lab" / "before_after.png"))
    assert picture is not None and picture.shape == (128, 3 * 128, 3)


@pytest.mark.slow
def test_train_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load("train_policy")(tmp_path, episodes=1, steps=2, batch_size=2, trials=1, max_steps=3)
    raw, edited = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("raw", "edited")
    )
    assert raw["editor"] is None and edited["editor"].startswith("embedded@")
    assert raw["seed"] == edited["seed"] == 10_000
    assert [len(record["episodes"]) for record in (raw, edited)] == [1, 1]


def run_mujoco(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: MuJoCo chooses its GL library when it is first imported."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


MUJOCO = f"""
import runpy
example = runpy.run_path({str(EXAMPLES / "mujoco_env.py")!r})
"""
LOOK = """
import numpy as np
from gymnasium.utils.env_checker import check_env
env = example["PushCube"]()
check_env(env, skip_render_check=True)
image, info = env.reset(seed=0)
assert env.observation_space.contains(image)
geometry = info["geometry"]["camera"]
names = {name: geometry.segmentation == number for number, name in geometry.names.items()}
assert set(names) == {"floor", "table", "cube", "gripper"}
red = image[..., 0] > 2.0 * image[..., 1] + 20
overlap = (red & names["cube"]).sum() / (red | names["cube"]).sum()
assert overlap > 0.9, overlap
# The camera stands at (0, -0.6, 0.7) and looks along (0, 0.8, -0.6); the centre of the cube's
# top edge in front, (0.1, -0.05, 0.12), is 0.8 * 0.55 + 0.6 * 0.58 = 0.788 m along that axis.
nearest = geometry.depth[names["cube"]].min()
assert abs(nearest - 0.788) < 0.005, nearest
start = env.data.geom("cube").xpos[0]
for _ in range(20):
    reward = env.step(np.array([0.4], np.float32))[1]
assert reward > start + 0.05, reward
"""


@pytest.mark.slow
def test_mujoco_env(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    done = run_mujoco(MUJOCO + "example['main'](steps=1)" + LOOK, tmp_path)
    if "MuJoCo cannot render" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "edits." in done.stdout
    picture = cv2.imread(str(tmp_path / "mujoco.png"))
    assert picture is not None and picture.shape == (128, 256, 3)


def test_mujoco_env_says_that_it_cannot_render(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    program = MUJOCO + "example['PushCube']()"
    done = run_mujoco(program, tmp_path, MUJOCO_GL="no_such_library")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "MuJoCo cannot render with no_such_library" in last and "MUJOCO_GL=egl" in last


def test_command_lines_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in SCRIPTS:
        if script.stem == ELSEWHERE:
            continue
        monkeypatch.setattr(sys, "argv", [script.name, "--help"])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(script), run_name="__main__")
        assert stop.value.code == 0
