from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError, FrameError, MissingExtraError
from spie_robo.feedback import FeedbackConfig, FeedbackInput, build_feedback
from spie_robo.feedback.judges.batches import batches
from spie_robo.feedback.judges.patches import (
    Dinov2Patches,
    DreamSimPatches,
    EmbeddedPatches,
    load_patch_judge,
    patch_colors,
)
from spie_robo.types import Frame
from spie_robo.vision.features import encoder, images_to_tensor


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embedded", (4, 6, 112)),
        ("embedded:stride2", (32, 48, 16)),
        ("embedded:stride4", (16, 24, 24)),
        ("embedded:stride8", (8, 12, 40)),
        ("embedded:stride32", (2, 3, 320)),
        ("embedded:stride8+stride16", (4, 6, 40 + 112)),
        ("embedded:color+stride16", (4, 6, 6 + 112)),
    ],
)
def test_layers_of_the_embedded_judge(noise, name: str, shape: tuple[int, ...]) -> None:
    (grid,) = load_patch_judge(name).patches([noise(0, 64, 96)])
    assert tuple(grid.shape) == shape and grid.dtype == torch.float32


def test_the_embedded_features_are_those_of_stride_16(noise) -> None:
    (grid,) = EmbeddedPatches().patches([noise(0)])
    expected = encoder()(images_to_tensor([noise(0)])).stride16[0]
    assert torch.equal(grid.permute(2, 0, 1), expected)


def test_the_distance_by_several_layers_is_the_mean_of_theirs(noise) -> None:
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (40, 200)]

    def distance(name: str) -> float:
        first, second = load_patch_judge(name).patches(images)
        middle = first.shape[0] // 2  # a flat image: away from its rim all features are equal
        return 1 - float(torch.cosine_similarity(first[middle, middle], second[middle, middle], 0))

    apart = [distance("embedded:stride2"), distance("embedded:stride4")]
    assert distance("embedded:stride2+stride4") == pytest.approx(np.mean(apart), rel=1e-3)


def test_colour_joins_as_one_more_layer_that_sees_light() -> None:
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (51, 102)]

    def distance(name: str) -> float:
        first, second = load_patch_judge(name).patches(images)
        return 1 - float(torch.cosine_similarity(first[2, 2], second[2, 2], 0))

    by_hand = 1 - np.cos(np.pi * 0.2)
    apart = [by_hand, distance("embedded:stride16")]
    assert distance("embedded:color+stride16") == pytest.approx(np.mean(apart), rel=1e-3)


def test_patch_colours_by_hand() -> None:
    pixels = torch.zeros(1, 3, 4, 2)
    pixels[0, 0, :2] = torch.tensor([255.0, 0.0])  # the upper patch: half of full red
    (colors,) = patch_colors(pixels, 2, 1).unbind()
    torch.testing.assert_close(colors[:, 0, 0], torch.tensor([0.0, 1, 1, 1, 0, 0]))
    torch.testing.assert_close(colors[:, 1, 0], torch.tensor([1.0, 1, 1, 0, 0, 0]))


def test_images_of_several_sizes_keep_their_order(noise) -> None:
    grids = EmbeddedPatches().patches([noise(0), noise(1, 32, 64), noise(2)])
    assert [tuple(g.shape[:2]) for g in grids] == [(4, 4), (2, 4), (4, 4)]


def test_an_image_too_small_for_the_encoder_is_refused(noise) -> None:
    with pytest.raises(FrameError, match="at least 32x32"):
        EmbeddedPatches().patches([noise(0, 16, 16)])


def test_batches_are_of_one_size_and_sixteen_at_most(noise) -> None:
    images = [noise(i, 16, 16) for i in range(20)] + [noise(99, 16, 32)]
    sizes = [len(batch) for batch in batches(images, "cuda")]
    assert sizes == [16, 4, 1]
    assert [len(batch) for batch in batches(images, "cpu")] == [1] * 21
    assert list(batches([], "cpu")) == []


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_patch_tokens_without_cls_and_registers(save_model, noise, registers: int) -> None:
    judge = load_patch_judge(str(save_model("dinov2", registers=registers)))
    assert isinstance(judge, Dinov2Patches)
    expected_class = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    assert type(judge._model).__name__ == expected_class
    (grid,) = judge.patches([noise(0, 64, 96)])
    assert tuple(grid.shape) == (16, 24, 8)
    pixels = judge._processor(
        images=[noise(0, 64, 96)],
        size={"height": 224, "width": 336},
        do_center_crop=False,
        return_tensors="pt",
    )["pixel_values"]
    with torch.no_grad():
        tokens = judge._model(pixel_values=pixels).last_hidden_state[0]
    assert len(tokens) == 1 + registers + 16 * 24
    assert torch.equal(grid.reshape(-1, 8), tokens[1 + registers :])


def test_dinov2_s_grid_covers_the_image_and_lies_as_it_does(save_model) -> None:
    """Darken one corner: of all patches the one there changes most."""
    judge = Dinov2Patches(str(save_model("dinov2")))
    plain = np.full((64, 64, 3), 200, np.uint8)
    corner = plain.copy()
    corner[:8, -8:] = 0
    before, after = judge.patches([plain, corner])
    change = (after - before).norm(dim=-1)
    assert divmod(int(change.argmax()), 16)[0] < 2
    assert divmod(int(change.argmax()), 16)[1] >= 14


def test_dinov2_features_do_not_depend_on_neighbours(save_model, noise) -> None:
    judge = Dinov2Patches(str(save_model("dinov2")))
    together = judge.patches([noise(i) for i in range(3)])
    assert torch.equal(together[1], judge.patches([noise(1)])[0])


def test_without_torchvision_the_processor_falls_back_to_pil(save_model) -> None:
    from transformers.utils import is_torchvision_available

    judge = Dinov2Patches(str(save_model("dinov2")))
    name = type(judge._processor).__name__
    assert name == ("BitImageProcessor" if is_torchvision_available() else "BitImageProcessorPil")


def test_dinov2_scores_edits(save_model, noise) -> None:
    config = FeedbackConfig(structure="monocular", patch_judge=str(save_model("dinov2")))
    one = FeedbackInput(Frame(noise(0)), noise(1))
    scores = build_feedback(config).score([one], [[noise(1), noise(2)]])
    assert scores.semantic[0, 0] == pytest.approx(0.0, abs=1e-5)
    assert scores.semantic[0, 1] > 0


# DreamSim: its package needs torchvision, so its documented interface is stood in for.


class _PatchModel(torch.nn.Module):
    """``embed`` as the package's patch models have it: (N, 1 + 14 * 14, C), CLS first."""

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (3, 224, 224)
        assert 0 <= images.min() and images.max() <= 1
        pooled = torch.nn.functional.avg_pool2d(images, 16).flatten(2).transpose(1, 2)
        return torch.cat([torch.full_like(pooled[:, :1], 99.0), pooled], dim=1)


def _package(calls: list[dict[str, object]]) -> types.ModuleType:
    module = types.ModuleType("dreamsim")

    def preprocess(image):
        resized = image.convert("RGB").resize((224, 224), 3)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None] / 255

    def dreamsim(
        pretrained=True,
        device="cuda",
        cache_dir="./models",
        normalize_embeds=True,
        dreamsim_type="ensemble",
        use_patch_model=False,
    ):
        calls.append(locals().copy())
        return _PatchModel().eval(), preprocess

    module.dreamsim = dreamsim  # type: ignore[attr-defined]
    return module


def test_dreamsim_patches_come_without_cls(monkeypatch, tmp_path, noise) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "dreamsim", _package(calls))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    judge = load_patch_judge("dreamsim")
    assert isinstance(judge, DreamSimPatches)
    assert calls[0]["use_patch_model"] is True and calls[0]["dreamsim_type"] == "dino_vitb16"
    assert str(calls[0]["cache_dir"]).startswith(str(tmp_path))
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 255
    grids = judge.patches([image, noise(1)])
    assert [tuple(grid.shape) for grid in grids] == [(14, 14, 3)] * 2
    assert grids[0][:6].mean() == pytest.approx(1.0, abs=0.02)
    assert grids[0][8:].mean() == pytest.approx(0.0, abs=0.02)


def test_dreamsim_from_a_folder_says_what_lacks(monkeypatch, tmp_path: Path) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "dreamsim", _package(calls))
    (tmp_path / "dino_vitb16_pretrain.pth").touch()
    with pytest.raises(ConfigError, match="lacks dino_vitb16_patch_lora"):
        load_patch_judge(f"dreamsim:{tmp_path}")
    (tmp_path / "dino_vitb16_patch_lora").mkdir()
    load_patch_judge(f"dreamsim:{tmp_path}")
    assert calls[0]["cache_dir"] == str(tmp_path)


def test_without_the_package_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    with pytest.raises(MissingExtraError, match=r"spie-robo\[models\]"):
        load_patch_judge("dreamsim")


def test_the_embedded_judges_need_no_transformers() -> None:
    code = (
        "import sys; from spie_robo.feedback.judges.patches import load_patch_judge; "
        "load_patch_judge('embedded'); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("registers", [0, 2])
def test_dinov2_with_gradients_sees_what_it_sees_without(save_model, noise, registers) -> None:
    judge = Dinov2Patches(str(save_model("dinov2", registers=registers)))
    image = np.repeat(np.repeat(noise(0, 16, 24), 14, axis=0), 14, axis=1)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().requires_grad_()
    grid, expected = judge.patches_of(pixels)[0], judge.patches([image])[0]
    assert grid.shape == expected.shape
    torch.testing.assert_close(grid, expected, atol=0.02, rtol=0.02)
    grid.sum().backward()
    assert pixels.grad.abs().max() > 0
