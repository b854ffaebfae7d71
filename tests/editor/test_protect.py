from __future__ import annotations

import cv2
import numpy as np
import pytest

from spie_robo.editor.protect import hold_chroma, protected_mask
from spie_robo.errors import FrameError
from spie_robo.types import Frame, Geometry


def scene():
    rgb = np.full((64, 64, 3), 120, np.uint8)
    segmentation = np.zeros((64, 64), np.int32)
    rgb[20:40, 20:40], segmentation[20:40, 20:40] = (200, 30, 30), 3
    return Frame(rgb, geometry=Geometry(segmentation=segmentation, names={0: "table", 3: "cube"}))


def chroma(image):
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:]


def test_a_red_cube_stays_red_under_blue_light():
    frame = scene()
    edit = (frame.rgb * np.array([0.4, 0.5, 1.0])).astype(np.uint8)
    edit[20:40, 20:40] = (60, 40, 120)  # the cube went violet
    held = hold_chroma(edit, frame.rgb, protected_mask(frame, ["cube"]))
    inside = (slice(22, 38), slice(22, 38))
    assert np.abs(chroma(edit)[inside] - chroma(frame.rgb)[inside]).mean() > 30
    hue = np.arctan2(chroma(held)[inside][..., 1], chroma(held)[inside][..., 0])
    raw_hue = np.arctan2(chroma(frame.rgb)[inside][..., 1], chroma(frame.rgb)[inside][..., 0])
    assert np.abs(hue - raw_hue).max() < 0.2
    red, green, blue = held[30, 30].astype(int)
    assert red > 2 * green and red > 2 * blue


def test_lightness_is_the_edits_and_the_rest_is_untouched():
    frame = scene()
    edit = (frame.rgb * 0.8).astype(np.uint8)
    held = hold_chroma(edit, frame.rgb, protected_mask(frame, [3]))

    def lightness(image):
        return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[30, 30, 0]

    assert abs(lightness(held) - lightness(edit)) < 2
    assert np.array_equal(held[:14], edit[:14]) and np.array_equal(held[:, 46:], edit[:, 46:])


def test_out_of_view_is_no_error():
    frame = scene()
    edit = frame.rgb // 2
    assert hold_chroma(edit, frame.rgb, protected_mask(frame, [17])) is edit


def test_what_cannot_be_protected_is_named():
    with pytest.raises(FrameError, match=r"'ball'.*cube, table"):
        protected_mask(scene(), ["ball"])
    with pytest.raises(FrameError, match="no segmentation"):
        protected_mask(Frame(scene().rgb), ["cube"])
