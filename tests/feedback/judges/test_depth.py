from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spie_robo.errors import FrameError
from spie_robo.feedback import FeedbackConfig, FeedbackInput, build_feedback
from spie_robo.feedback.judges.depth import (
    DepthAnything,
    EmbeddedDepth,
    _area_weights,
    load_depth_judge,
)
from spie_robo.guard.judge import shipped_judge
from spie_robo.types import Frame, Geometry


def test_the_embedded_judge_is_the_guard_s(noise) -> None:
    judge = load_depth_judge("embedded")
    assert isinstance(judge, EmbeddedDepth) and judge.scale == "log"
    (found,) = judge.depth([noise(0)])
    assert np.array_equal(found, shipped_judge().estimate([noise(0)])[0].log_depth)


def test_depth_anything_from_a_folder(save_model, noise) -> None:
    from transformers import DepthAnythingForDepthEstimation

    judge = load_depth_judge(str(save_model("depth_anything")))
    assert isinstance(judge, DepthAnything) and judge.scale == "inverse"
    assert isinstance(judge._model, DepthAnythingForDepthEstimation)
    maps = judge.depth([noise(0), noise(1), noise(2, 64, 96)])
    assert [m.shape for m in maps] == [(56, 56), (56, 56), (56, 84)]
    assert all(m.dtype == np.float32 and np.isfinite(m).all() for m in maps)
    assert maps[0].std() > 0 and not np.array_equal(maps[0], maps[1])


def test_inverse_depth_is_turned_so_that_larger_is_farther(save_model, noise) -> None:
    judge = DepthAnything(str(save_model("depth_anything")))
    pixels = judge._processor(images=[noise(0)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        disparity = judge._model(pixel_values=pixels).predicted_depth[0].numpy()
    assert disparity.min() >= 0 and disparity.max() > 0
    assert np.array_equal(judge.depth([noise(0)])[0], -disparity)


def test_a_metric_model_gives_log_metres(save_model, noise) -> None:
    folder = save_model("depth_anything", estimates="metric", max_depth=20)
    judge = DepthAnything(str(folder))
    assert judge.scale == "log"
    pixels = judge._processor(images=[noise(0)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        metres = judge._model(pixel_values=pixels).predicted_depth[0].numpy()
    assert np.allclose(judge.depth([noise(0)])[0], np.log(np.maximum(metres, 1e-3)), atol=1e-5)


def test_maps_do_not_depend_on_neighbours(save_model, noise) -> None:
    judge = DepthAnything(str(save_model("depth_anything")))
    together = judge.depth([noise(i) for i in range(3)])
    assert np.array_equal(together[1], judge.depth([noise(1)])[0])


def test_something_that_is_no_image_is_refused(save_model) -> None:
    with pytest.raises(FrameError, match="image 0"):
        DepthAnything(str(save_model("depth_anything"))).depth([np.zeros((32, 32))])


def test_without_torchvision_the_processor_falls_back_to_pil(save_model) -> None:
    from transformers.utils import is_torchvision_available

    judge = DepthAnything(str(save_model("depth_anything")))
    name = type(judge._processor).__name__
    assert name == ("DPTImageProcessor" if is_torchvision_available() else "DPTImageProcessorPil")


@pytest.mark.parametrize("structure", ["monocular", "paper", "simulator"])
def test_it_scores_edits(save_model, noise, structure) -> None:
    folder = str(save_model("depth_anything"))
    model = build_feedback(FeedbackConfig(structure=structure, depth_judge=folder))
    assert model.structural.scale == "inverse"
    depth = np.linspace(0.5, 2, 64 * 64, dtype=np.float32).reshape(64, 64)
    one = FeedbackInput(Frame(noise(0), geometry=Geometry(depth)), noise(1))
    scores = model.score([one], [[noise(0), noise(2)]])
    assert scores.structural.isfinite().all()
    if structure != "simulator":
        assert scores.structural[0, 0] == 0.0 < scores.structural[0, 1]


def test_depth_anything_with_gradients_sees_what_it_sees_without(save_model, noise) -> None:
    judge = DepthAnything(str(save_model("depth_anything")))
    (expected,) = judge.depth([noise(0)])
    pixels = torch.from_numpy(noise(0)).permute(2, 0, 1)[None].float().requires_grad_()
    found = judge.depth_of(pixels)[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=0.05 * np.ptp(expected))
    found.sum().backward()
    assert pixels.grad.abs().max() > 0


def test_the_embedded_judge_answers_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert EmbeddedDepth().depth_of(torch.zeros(1, 3, 128, 128)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(128, 128), (128, 171), (150, 200), (256, 384), (96, 160)])
def test_the_embedded_judge_with_gradients_sees_what_it_sees_without(shape):
    judge = EmbeddedDepth()
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (expected,) = judge.depth([image])
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().requires_grad_()
    found = judge.depth_of(pixels)[0]
    # Without gradients the resized image is rounded to bytes.
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=0.03)
    found.sum().backward()
    assert pixels.grad.abs().max() > 0


@pytest.mark.parametrize("length", [128, 171, 256, 300])
def test_areas_are_averaged_as_opencv_does(length):
    line = np.random.default_rng(0).random((1, length), np.float32)
    expected = cv2.resize(line, (128, 1), interpolation=cv2.INTER_AREA)
    found = torch.from_numpy(line).double() @ _area_weights(length, 128).T
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
