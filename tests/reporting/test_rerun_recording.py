from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo import cli
from spie_robo.data import EpisodeStore, EpisodeWriter
from spie_robo.errors import ConfigError, MissingExtraError, StoreError
from spie_robo.reporting import rerun_recording, write_recording
from spie_robo.reporting.content import Budget
from spie_robo.reporting.rerun_recording import (
    affordable_frames,
    budget_share,
    class_ids,
    picture_kinds,
)

STEPS, REJECTED, FAILED = 24, 7, 15  # of the store of conftest.py


def read(path: Path) -> dict[str, dict[int, dict[str, object]]]:
    """Of every entity the components of each step; what has no step is at -1."""
    from rerun.chunk import RrdReader

    found: dict[str, dict[int, dict[str, object]]] = defaultdict(dict)
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch().to_pydict()
        for i in range(chunk.num_rows):
            row = {name.split(":")[-1]: values[i] for name, values in batch.items()}
            found[chunk.entity_path][-1 if chunk.is_static else row["step"]] = row
    return found


@pytest.fixture(scope="module")
def recording(edited_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("recordings") / "episodes.rrd"
    assert write_recording(edited_store, out, frames=8) == out
    return read(out)


def test_pictures_are_those_of_the_store_with_names_for_the_ids(recording, edited_store):
    episode = EpisodeStore.open(edited_store)[0]
    for camera in ("front", "wrist"):
        shown = [step for step in recording[f"/{camera}/raw"] if step < STEPS]
        assert 2 <= len(shown) <= 8 and {0, STEPS - 1} <= set(shown)
        for kind, key in (("raw", f"{camera}_raw"), ("edited", f"{camera}_rgb")):
            for step in shown:
                blob = bytes(recording[f"/{camera}/{kind}"][step]["blob"][0])
                image = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
                assert np.abs(image - episode[key][step].astype(float)).mean() < 6
        for step in shown:
            ids = np.array(recording[f"/{camera}/segmentation"][step]["buffer"][0], np.uint8)
            expected = episode[f"{camera}_segmentation"][step]
            assert np.array_equal(ids.view(np.uint16).reshape(expected.shape), expected)
    context = recording["/front/segmentation"][-1]["context"][0]
    names = {entry["class_id"]: entry["class_description"]["info"]["label"] for entry in context}
    assert names == {0: "wall", 1: "table", 2: "cube", 3: "robot"}
    assert "/wrist/depth" not in recording and -1 not in recording.get("/wrist/segmentation", {})


def test_numbers_are_there_for_every_step_of_every_episode(recording, edited_store):
    store = EpisodeStore.open(edited_store)
    overlap = np.concatenate([episode["realism_front_mask_iou"] for episode in store])
    logged = recording["/verdicts/front/mask_iou"]
    known = np.flatnonzero(np.isfinite(overlap))
    assert sorted(logged) == list(known)
    np.testing.assert_allclose([logged[i]["scalars"][0] for i in known], overlap[known], rtol=1e-6)
    used = [recording["/budget/front/mask_iou"][i]["scalars"][0] for i in known]
    np.testing.assert_allclose(used, (1 - overlap[known]) / (1 - 0.6), rtol=1e-5)
    rejected = recording["/budget/front/depth_error"][REJECTED]["scalars"][0]
    assert rejected > 1 > recording["/budget/front/depth_error"][0]["scalars"][0] > 0
    edited = recording["/verdicts/front/edited"]
    assert [step for step in range(2 * STEPS) if edited[step]["scalars"] == [0.0]] == [
        REJECTED, FAILED, STEPS + REJECTED, STEPS + FAILED,
    ]  # fmt: skip
    last = recording["/action"][2 * STEPS - 1]
    assert last["scalars"] == [0.0] * 4
    episodes = [recording["/episode"][step]["scalars"][0] for step in range(2 * STEPS)]
    assert episodes == [0.0] * STEPS + [1.0] * STEPS
    assert "/verdicts/front/chroma_drift" not in recording  # never measured


def test_a_budget_without_a_limit_or_without_room_has_no_share():
    assert budget_share(Budget("a", "A", 2.0, True), 3.0) == 1.5
    assert budget_share(Budget("a", "A", 0.5, False), 1.0) == 0
    assert budget_share(Budget("a", "A", 0.5, False), 1.5) == 0  # some scores exceed 1
    assert budget_share(Budget("a", "A", None, True), 3.0) is None
    assert budget_share(Budget("a", "A", 0.0, True), 3.0) is None


def test_events_say_where_episodes_begin_and_which_edits_were_rejected(recording):
    events = recording["/events"]
    assert events[STEPS]["text"] == ["Episode 1 begins, seed 1."]
    assert events[REJECTED]["text"] == ["front: the edit was rejected, the raw frame is used."]
    assert events[REJECTED]["level"] == ["WARN"]
    assert events[STEPS + FAILED]["text"] == ["front: the editor failed, the raw frame is used."]
    assert len(events) == 2 + 4 * 2  # two cameras, two episodes


def test_a_store_of_raw_frames_has_no_edits_and_no_verdicts(tmp_path):
    with EpisodeWriter.create(tmp_path / "raw.zarr") as writer:
        rgb = np.full((3, 32, 32, 3), 90, np.uint8)
        depth = np.full((3, 32, 32), 1500, np.uint16)
        writer.add_episode({"front_rgb": rgb, "front_depth": depth, "action": np.ones((3, 2))})
    found = read(write_recording(tmp_path / "raw.zarr", tmp_path / "raw.rrd"))
    assert {"/front/raw", "/front/depth", "/action", "/events"} <= set(found)
    assert not any("edited" in entity or "verdicts" in entity for entity in found)
    assert found["/front/depth"][0]["meter"] == [1000.0]


def test_views_are_of_what_a_store_has():
    keys = ("front_rgb", "front_raw", "front_depth", "wrist_rgb", "wrist_segmentation")
    assert picture_kinds(keys, "front") == {
        "raw": "front_raw", "edited": "front_rgb", "depth": "front_depth",
    }  # fmt: skip
    assert picture_kinds(keys, "wrist") == {
        "raw": "wrist_rgb", "segmentation": "wrist_segmentation",
    }  # fmt: skip


def test_ids_that_the_viewer_cannot_hold_take_no_others_name():
    found = class_ids(np.array([[-1, 0, 7, 65534, 65535, 70000]], np.int32))
    assert found.tolist() == [[65535, 0, 7, 65534, 65535, 65535]]


def test_pictures_are_bounded_by_memory(edited_store, tmp_path, monkeypatch):
    source = EpisodeStore.open(edited_store)
    a_step = 2 * 64 * 64 * (3 + 3 + 4)  # two cameras: raw, edited, segmentation
    monkeypatch.setattr(rerun_recording, "PICTURE_BYTES", 2 * 5 * a_step)
    assert affordable_frames(source, ("front", "wrist"), 40) == 5
    assert affordable_frames(source, ("front", "wrist"), 3) == 3
    found = read(write_recording(edited_store, tmp_path / "small.rrd"))
    assert len(found["/front/raw"]) <= 2 * 5


def test_bad_input_is_named_and_leaves_nothing(edited_store, tmp_path, monkeypatch, capsys):
    EpisodeWriter.create(tmp_path / "empty.zarr").close()
    with pytest.raises(StoreError, match="finished episodes"):
        write_recording(tmp_path / "empty.zarr", tmp_path / "out.rrd")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_recording(edited_store, tmp_path / "empty.zarr")
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spie-robo\[rerun\]'"):
        write_recording(edited_store, tmp_path / "out.rrd")
    assert cli.main(["report", str(edited_store), "--out", str(tmp_path / "out.rrd")]) == 2
    assert "spie-robo[rerun]" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "empty.zarr"
    ]


def test_the_command_says_how_to_open_it(edited_store, tmp_path, capsys):
    out = tmp_path / "episodes.rrd"
    assert cli.main(["report", str(edited_store), "--out", str(out), "--frames", "4"]) == 0
    assert f"open it with: rerun {out}" in capsys.readouterr().out
