from __future__ import annotations

import io
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spie_robo.data.conversion.camera_choice import edited_cameras
from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.lerobot.depth_codes import DepthCodes
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.frames import camera_frames
from spie_robo.data.recorded_geometry import geometry_origin
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.errors import StoreError

by_hand = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("by_hand.py"))))

FRONT, DEPTH = "observation.images.front", "observation.images.front_depth"
LENGTHS = (5, 4)


def codes_of(metres: np.ndarray) -> np.ndarray:
    """LeRobot's own formula, ``quantize_depth`` of lerobot 0.6.1."""
    low, high = np.log(0.01 + 3.5), np.log(10 + 3.5)
    norm = (np.log(metres.astype(np.float32) + np.float32(3.5)) - low) / (high - low)
    return np.rint(norm * 4095).clip(0, 4095).astype(np.uint16)


def scene(steps: int) -> np.ndarray:
    """Depth in metres with what was not measured (0) and what is too far (12 m)."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 3, (steps, 24, 32)).astype(np.float32)
    depth[:, 0, 0], depth[:, 1, 1] = 0, 12
    return depth


def colours(steps: int) -> np.ndarray:
    y, x = np.mgrid[:24, :32]
    ramp = np.stack([x * 7, y * 9, x * 3 + y], -1).astype(np.uint8)
    return np.stack([np.roll(ramp, t, 1) for t in range(steps)])


def with_depth_video(root, flag="is_depth_map"):
    total = sum(LENGTHS)
    by_hand.video(by_hand.video_file(root, FRONT), colours(total), 10, codec="libx264",
                  pixels="yuv420p", g="2")  # fmt: skip
    depth = by_hand.depth_video(by_hand.video_file(root, DEPTH), codes_of(scene(total)))
    if flag != "is_depth_map":
        depth["info"][flag] = depth["info"].pop("is_depth_map")
    front = {"dtype": "video", "shape": [24, 32, 3], "names": ["height", "width", "channels"],
             "info": {"video.codec": "h264", "is_depth_map": False}}  # fmt: skip
    action = np.random.default_rng(1).normal(size=(total, 3)).astype(np.float32)
    features = {FRONT: front, DEPTH: depth, "action": by_hand.numbers("float32", [3])}
    return by_hand.data_set(root, {"action": action}, LENGTHS, features)


@pytest.mark.parametrize("flag", ["is_depth_map", "video.is_depth_map"])
def test_depth_videos_are_depth_in_metres_and_no_camera(tmp_path, flag):
    truth = scene(sum(LENGTHS))
    with open_source(with_depth_video(tmp_path / "d", flag)) as source:
        assert "front_depth" in source.keys and "front_depth_rgb" not in source.keys
        assert edited_cameras(source, ()) == ("front",)
        rows = source.read_rows(1, 1, 4)["front_depth"]
        assert rows.dtype == np.float32 and rows.shape == (3, 24, 32)
        known = (truth > 0) & (truth < 10)
        found = np.concatenate([episode["front_depth"] for episode in source])
        np.testing.assert_allclose(found[known], truth[known], atol=0.003)
        assert found[:, 0, 0] == pytest.approx(0.01)  # LeRobot's own answer for "no reading"
        assert found[:, 1, 1] == pytest.approx(10)
        np.testing.assert_array_equal(rows, found[6:9])
        record = SourceRecord.of(source.metadata)
        assert any("front_depth holds 12-bit codes from 0.01 to 10 m" in n for n in record.notes)


def test_edits_are_judged_by_the_depth_that_was_measured(tmp_path):
    with open_source(with_depth_video(tmp_path / "d")) as source:
        assert geometry_origin(source.metadata, source.keys, "front") == "recorded"
        frames = camera_frames(source.metadata, source.read_rows(0, 0, 2), "front")
    depth = frames[1].geometry.depth
    truth = scene(sum(LENGTHS))[1]
    known = (truth > 0) & (truth < 10)
    np.testing.assert_allclose(depth[known], truth[known], atol=0.003)
    assert (depth[~known] == 0).all()  # what the guard leaves out


def test_depth_videos_are_written_back_code_by_code(tmp_path, same_episodes):
    root = with_depth_video(tmp_path / "d")
    convert_store(root, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    assert [loss.key for loss in report.losses] == ["front_rgb"]
    with av.open(str(by_hand.video_file(tmp_path / "again", DEPTH))) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack(frames), codes_of(scene(sum(LENGTHS))))
    before, after = (
        json.loads((p / "meta/info.json").read_text()) for p in (root, tmp_path / "again")
    )
    assert after["features"][DEPTH] == {
        **before["features"][DEPTH],
        "info": {**before["features"][DEPTH]["info"], "video.crf": None},
    }


@pytest.mark.parametrize(("unit", "dtype"), [("mm", np.uint16), ("m", np.float32)])
def test_depth_pictures_keep_their_numbers(tmp_path, unit, dtype, same_episodes):
    metres = np.clip(scene(sum(LENGTHS)), 0, 9)
    depth = (metres * 1000).astype(np.uint16) if unit == "mm" else metres
    packed = []
    for plane in depth:
        stream = io.BytesIO()
        Image.fromarray(plane).save(stream, "TIFF", compression="raw")
        packed.append({"bytes": stream.getvalue(), "path": "frame.tiff"})
    feature = {"dtype": "image", "shape": [24, 32, 1], "names": ["height", "width", "channels"],
               "info": {"is_depth_map": True, "depth_unit": unit}}  # fmt: skip
    root = by_hand.data_set(tmp_path / "d", {DEPTH: pa.array(packed)}, LENGTHS, {DEPTH: feature})
    with open_source(root) as source:
        rows = source.read_rows(1, 0, 4)["front_depth"]
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows, depth[5:9])
    convert_store(root, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    with open_source(tmp_path / "again") as source:
        same_episodes(source, store)
    written = json.loads((tmp_path / "again/meta/info.json").read_text())
    assert written["features"][DEPTH] == feature
    row = pq.read_table(tmp_path / "again/data/chunk-000/file-000.parquet")[DEPTH][0].as_py()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["bytes"]))), depth[0])


@pytest.mark.parametrize(
    "change", [{"video.depth_min": 3, "video.depth_max": 2}, {"video.depth_max": "far"},
               {"video.depth_min": 0, "video.shift": 0}, {"video.depth_max": float("inf")}],
)  # fmt: skip
def test_bounds_of_depth_that_make_no_sense_are_named(change):
    with pytest.raises(StoreError, match="depth"):
        DepthCodes.of(change, "x")


def test_every_code_survives_metres_and_back():
    for logarithmic in (True, False):
        codes = DepthCodes(0.01, 10.0, 3.5, logarithmic)
        every = np.arange(4096, dtype=np.uint16)
        np.testing.assert_array_equal(codes.to_codes(codes.to_metres(every)), every)
