from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spie_robo.errors import FrameError
from spie_robo.evaluation.realism import Layer, PooledFeatures, kernel_distance, square
from spie_robo.types import RGB


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3)) / 255


def pictures(number: int, brightness: int, seed: int, size: int = 48) -> list[RGB]:
    """Noise around a brightness."""
    generator = np.random.default_rng(seed)
    values = brightness + generator.integers(-40, 41, (number, size, size, 3))
    return list(np.clip(values, 0, 255).astype(np.uint8))


def stripes(number: int, width: int, seed: int) -> list[RGB]:
    """Noisy vertical stripes: a look that an ImageNet network knows from others."""
    columns = np.where(np.arange(64) // width % 2, 60, -60).astype(np.int64)
    noise = [image.astype(np.int64) for image in pictures(number, 128, seed, 64)]
    return [np.clip(n + columns[None, :, None], 0, 255).astype(np.uint8) for n in noise]


@pytest.mark.parametrize("layer", ["embedding", "stride8"])
def test_equal_looks_are_nearer_than_different_ones(layer: Layer) -> None:
    photos, extractor = stripes(8, 4, 0), PooledFeatures(layer)
    near = kernel_distance(stripes(8, 4, 1), photos, size=64, extractor=extractor)
    far = kernel_distance(stripes(8, 16, 2), photos, size=64, extractor=extractor)
    assert far.mean > 10 * abs(near.mean)


def test_small_sets_of_unequal_number_work_and_repeat_by_seed() -> None:
    edits, photos = pictures(7, 100, 0), pictures(4, 150, 1)
    extractor = MeanColour()
    state = torch.random.get_rng_state()
    first = kernel_distance(edits, photos, seed=3, size=32, extractor=extractor)
    assert first == kernel_distance(edits, photos, seed=3, size=32, extractor=extractor)
    assert first != kernel_distance(edits, photos, seed=4, size=32, extractor=extractor)
    assert first.deviation > 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_value_is_the_unbiased_estimate_of_the_polynomial_kernel() -> None:
    edits, photos = pictures(5, 100, 0), pictures(5, 150, 1)
    extractor = MeanColour()
    x, y = (
        torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in s]).float().mean((2, 3)) / 255
        for s in (photos, edits)
    )
    kernel = lambda a, b: (a @ b.T / 3 + 1) ** 3  # noqa: E731
    within = sum((kernel(z, z).sum() - kernel(z, z).trace()) / 20 for z in (x, y))
    expected = float(within - 2 * kernel(x, y).mean())
    found = kernel_distance(edits, photos, size=48, extractor=extractor)
    assert found.mean == pytest.approx(expected, abs=1e-5)
    assert found.deviation == 0


def test_one_photo_is_refused() -> None:
    with pytest.raises(FrameError, match="at least two"):
        kernel_distance(pictures(4, 100, 0), pictures(1, 100, 1))


def test_square_crops_the_centre() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255
    assert square(image, 16).min() == 255
