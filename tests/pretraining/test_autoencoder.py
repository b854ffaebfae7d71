from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spie_robo.editor.latents import decode_image, encode_image
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.errors import ConfigError


def smooth_images(count: int, seed: int) -> Tensor:
    """Random images in [-1, 1] with more energy in low frequencies, as pictures have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    fine = 0.05 * torch.randn(count, 3, 64, 64, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic") + fine
    return images.clamp(-1, 1)


def error(autoencoder: PatchAutoencoder, images: Tensor) -> float:
    with torch.no_grad():
        again = decode_image(autoencoder, encode_image(autoencoder, images))
    return float((again - images).square().mean())


def test_all_components_lose_nothing() -> None:
    images = smooth_images(8, seed=0)
    autoencoder = PatchAutoencoder.fit(images, latent_channels=48)
    # One bias a colour stands for the mean patch, which is nearly flat: that is all that is lost.
    assert error(autoencoder, smooth_images(4, seed=1)) < 1e-4


def test_more_channels_lose_less() -> None:
    images, others = smooth_images(8, seed=0), smooth_images(4, seed=1)
    errors = [error(PatchAutoencoder.fit(images, c), others) for c in (3, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_latents_have_unit_variance() -> None:
    images = smooth_images(16, seed=0)
    with torch.no_grad():
        latents = encode_image(PatchAutoencoder.fit(images, 12), images)
    assert latents.shape == (16, 12, 16, 16)
    deviations = latents.std(dim=(0, 2, 3))
    assert torch.allclose(deviations, torch.ones(12), atol=0.02)


def test_it_beats_every_other_linear_code_of_its_size() -> None:
    images = smooth_images(16, seed=0)
    averaging = torch.nn.functional.avg_pool2d(images, 4)
    averaged = torch.nn.functional.interpolate(averaging, scale_factor=4, mode="nearest")
    assert error(PatchAutoencoder.fit(images, 3), images) <= float(
        (averaged - images).square().mean()
    ) * (1 + 1e-4)


def test_same_images_give_the_same_bytes() -> None:
    first, second = (PatchAutoencoder.fit(smooth_images(4, seed=3)).state_dict() for _ in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    autoencoder = PatchAutoencoder.fit(smooth_images(4, seed=0), latent_channels=10, patch=8)
    autoencoder.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    images = smooth_images(2, seed=2)
    assert torch.equal(encode_image(again, images), encode_image(autoencoder, images))
    assert 2 ** (len(again.config.block_out_channels) - 1) == 8


@pytest.mark.parametrize(("channels", "patch"), [(0, 4), (49, 4), (16, 3), (16, 0)])
def test_impossible_shapes_are_refused(channels: int, patch: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        PatchAutoencoder(channels, patch)
