from __future__ import annotations

import numpy as np
import pytest

from spie_robo.data import StoreMetadata
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.frames import camera_frames
from spie_robo.data.recorded_geometry import fitted, geometry_origin, metres


def test_the_origin_of_geometry():
    keys = ("a_rgb", "a_depth", "b_rgb", "b_segmentation", "c_rgb")
    recorded = with_source(StoreMetadata(), SourceRecord("robomimic"))
    found = {c: geometry_origin(StoreMetadata(), keys, c) for c in "abc"}
    assert found == {"a": "simulator", "b": "simulator", "c": "estimated"}
    found = {c: geometry_origin(recorded, keys, c) for c in "abc"}
    assert found == {"a": "recorded", "b": "recorded", "c": "estimated"}


def test_whole_numbers_are_millimetres():
    assert metres(np.array([0, 1500], np.uint16)).tolist() == [0, 1.5]
    already = np.array([0.5, 2], np.float32)
    assert metres(already) is already


@pytest.mark.parametrize("shape", [(16, 20), (8, 10), (32, 40)])
def test_planes_are_brought_to_the_size_of_the_image(shape):
    plane = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    result = fitted(plane, (16, 20))
    assert result.shape == (16, 20)
    assert set(np.unique(result)) <= set(np.unique(plane))  # no id is made up in between


def test_a_plane_of_another_shape_is_not_guessed_at():
    rows = {
        "a_rgb": np.zeros((2, 16, 20, 3), np.uint8),
        "a_depth": np.ones((2, 16, 16), np.float32),
    }
    assert [f.geometry for f in camera_frames(StoreMetadata(), rows, "a")] == [None, None]
    rows["a_segmentation"] = np.ones((2, 8, 10), np.int32)
    frame = camera_frames(StoreMetadata(), rows, "a")[0]
    assert frame.geometry.depth is None
    assert frame.geometry.segmentation.shape == (16, 20)


def test_frames_say_who_recorded_their_geometry():
    rows = {
        "a_rgb": np.zeros((1, 16, 20, 3), np.uint8),
        "a_depth": np.ones((1, 16, 20), np.float32),
    }
    foreign = with_source(StoreMetadata(), SourceRecord("robomimic"))
    found = [camera_frames(m, rows, "a")[0].geometry.origin for m in (StoreMetadata(), foreign)]
    assert found == ["simulator", "recorded"]
