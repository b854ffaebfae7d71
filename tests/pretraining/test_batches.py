from __future__ import annotations

import numpy as np
import pytest
import torch

from spie_robo.pretraining.batches import PairSampler, draw_color_shift, random_zoom
from spie_robo.pretraining.images import add_noise, to_bytes, to_unit
from spie_robo.pretraining.pairs import PairArrays

SCENES = 4


@pytest.fixture
def pairs() -> PairArrays:
    """Five styles of four scenes; the grey level of a twin frame tells its style."""
    styles = np.repeat(np.arange(5), SCENES)
    twin = np.zeros((len(styles), 32, 32, 3), np.uint8) + (styles * 50 + 20)[:, None, None, None]
    rng = np.random.default_rng(0)
    return {
        "simulator_rgb": rng.integers(0, 255, (len(styles), 32, 32, 3), np.uint8),
        "twin_rgb": twin.astype(np.uint8),
    }


def test_a_reference_shows_another_scene_of_the_same_style(pairs: PairArrays) -> None:
    sampler = PairSampler(pairs, SCENES)
    rows = torch.arange(len(sampler))
    for seed in range(5):
        partners = sampler._partners(rows, torch.Generator().manual_seed(seed))
        assert torch.equal(partners // SCENES, rows // SCENES)
        assert (partners != rows).all()


def test_target_and_reference_share_their_colour_shift(pairs: PairArrays) -> None:
    batch = PairSampler(pairs, SCENES).sample(64, torch.Generator().manual_seed(0))
    difference = batch.targets.mean(dim=(1, 2, 3)) - batch.references.mean(dim=(1, 2, 3))
    assert difference.abs().max() < 0.02
    assert batch.targets.mean(dim=(1, 2, 3)).std() > 0.2


def test_equal_generators_give_equal_batches(pairs: PairArrays) -> None:
    sampler = PairSampler(pairs, SCENES)
    first, second = (sampler.sample(8, torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(first.references, second.references)
    assert torch.equal(first.inputs, second.inputs)


def test_zoom_stays_inside_the_image() -> None:
    images = torch.rand(16, 3, 32, 32)
    zoomed = random_zoom(images, torch.Generator().manual_seed(0))
    assert zoomed.shape == images.shape
    assert zoomed.min() >= images.min() - 1e-6 and zoomed.max() <= images.max() + 1e-6
    whole = random_zoom(images, torch.Generator().manual_seed(0), smallest=1.0)
    same = [
        torch.allclose(w, i, atol=1e-4) or torch.allclose(w, i.flip(-1), atol=1e-4)
        for w, i in zip(whole, images, strict=True)
    ]
    assert all(same)


def test_noise_touches_only_its_share() -> None:
    images = torch.zeros(200, 3, 8, 8)
    noisy = add_noise(images, 0.1, torch.Generator().manual_seed(0), share=0.25)
    touched = (noisy != 0).flatten(1).any(dim=1).float().mean()
    assert 0.15 < float(touched) < 0.35


def test_colour_shift_has_the_stated_shapes() -> None:
    gain, offset = draw_color_shift(6, torch.Generator().manual_seed(0))
    assert gain.shape == (6, 3, 1, 1) and offset.shape == (6, 1, 1, 1)
    assert float((gain - 1).abs().max()) < 0.35


def test_bytes_survive_the_round_trip() -> None:
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(to_bytes(to_unit(images)), images)
