from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spie_robo.editor.resolution import hold_detail, restore, shrink, working_size


def textured(height, width):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.random((6, 6, 3)).astype(np.float32), (width, height))
    image = 0.7 * smooth + 0.2 * rng.random((height, width, 1))
    return (image.clip(0, 1) * 255).astype(np.uint8)


@given(st.integers(16, 4000), st.integers(16, 4000), st.sampled_from([64, 128, 512]))
def test_working_size_is_valid(height, width, resolution):
    h, w = working_size(height, width, resolution, 16)
    assert h % 16 == 0 and w % 16 == 0 and min(h, w) >= 16


@pytest.mark.parametrize(
    ("frame", "working"),
    [((128, 128), (128, 128)), ((480, 640), (112, 144)), ((256, 256), (128, 128))],
)
def test_working_size_keeps_the_aspect_ratio(frame, working):
    assert working_size(*frame, 128, 16) == working


def test_frames_of_working_size_pass_untouched():
    image, edit = textured(128, 128), textured(128, 128)[::-1]
    assert shrink(image, (128, 128)) is image
    assert restore(edit, image) is edit


def test_smaller_frames_get_the_shrunken_edit():
    assert restore(textured(128, 128), textured(64, 64)).shape == (64, 64, 3)


def test_an_affine_recolouring_is_restored_exactly():
    frame = textured(384, 512)
    matrix = np.array([[0.8, 0.1, 0.0], [0.0, 0.7, 0.1], [0.1, 0.0, 0.6]])

    def recolour(image):
        return (image @ matrix + 20).clip(0, 255).astype(np.uint8)

    small = shrink(frame, (96, 128))
    restored = restore(recolour(small), frame)
    error = np.abs(restored.astype(int) - recolour(frame)).mean()
    enlarged = cv2.resize(recolour(small), (512, 384), interpolation=cv2.INTER_CUBIC)
    assert error < 3
    assert error < 0.3 * np.abs(enlarged.astype(int) - recolour(frame)).mean()


def test_fine_detail_and_shape_come_back():
    frame = textured(384, 384)
    cv2.line(frame, (30, 50), (350, 320), (255, 255, 255), 1)
    darker = (shrink(frame, (128, 128)) * 0.6).astype(np.uint8)
    restored = restore(darker, frame)

    def gradient(image):
        return np.abs(np.diff(image.astype(float), axis=1)).mean()

    enlarged = cv2.resize(darker, (384, 384), interpolation=cv2.INTER_CUBIC)
    assert gradient(restored) > 0.85 * 0.6 * gradient(frame)
    assert gradient(enlarged) < 0.5 * 0.6 * gradient(frame)


def test_hold_detail_takes_grain_out_and_keeps_edges() -> None:
    frame = np.full((64, 64, 3), 90, np.uint8)
    frame[16:48, 16:48] = 170
    rng = np.random.default_rng(0)
    clean = (frame * [0.9, 0.7, 0.5] + 10).astype(np.uint8)
    grainy = np.clip(clean + rng.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    assert hold_detail(grainy, frame, 0.0) is grainy
    held = hold_detail(grainy, frame, 1.0)
    error = np.abs(held.astype(float) - clean).mean()
    assert error < 0.5 * np.abs(grainy.astype(float) - clean).mean()
    step = held[32, 16].astype(float) - held[32, 15]
    assert np.abs(step - (clean[32, 16].astype(float) - clean[32, 15])).max() < 12


@pytest.mark.parametrize("darkness", [0.02, 0.5, 1.0])
def test_the_map_solves_the_normal_equations_of_every_window(darkness) -> None:
    """Against a small matrix for every pixel, written down as the docstring has it."""
    frame = (textured(48, 64) * darkness).astype(np.uint8)
    rng = np.random.default_rng(1)
    edit = np.clip(frame * [0.9, 0.6, 0.4] + rng.normal(20, 6, frame.shape), 0, 255)
    edit = edit.astype(np.uint8)
    source, target = (image.astype(np.float64) / 255 for image in (frame, edit))

    def mean(values):
        flat = values.reshape(*values.shape[:2], -1)
        blurred = cv2.blur(flat, (17, 17), borderType=cv2.BORDER_REFLECT)
        return blurred.reshape(values.shape)

    def outer(first, second):
        return first[..., :, None] * second[..., None, :]

    mean_s, mean_t = mean(source), mean(target)
    light = mean_t.sum(axis=2) / np.maximum(mean_s.sum(axis=2), 1e-3)
    ridge = 1e-3 * np.eye(3)
    gain = np.linalg.solve(
        mean(outer(source, source)) - outer(mean_s, mean_s) + ridge,
        mean(outer(source, target)) - outer(mean_s, mean_t)
        + ridge * light.clip(0.5, 2.0)[..., None, None],
    )  # fmt: skip
    offset = mean_t - np.einsum("hwi,hwij->hwj", mean_s, gain)
    expected = np.einsum("hwi,hwij->hwj", source, mean(gain)) + mean(offset)
    expected = (expected.clip(0, 1) * 255).round()
    apart = np.abs(hold_detail(edit, frame, 1.0) - expected)
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
