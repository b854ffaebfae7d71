from __future__ import annotations

import math

import numpy as np
import pytest

from spie_robo.guard.relative_depth import depth_error, normalised_depth


def test_normalised_maps_have_median_zero_and_deviation_one() -> None:
    values = np.random.default_rng(0).gamma(2, 3, (40, 50)).astype(np.float32)
    normalised = normalised_depth(values)
    assert np.median(normalised) == pytest.approx(0, abs=1e-5)
    assert np.abs(normalised).mean() == pytest.approx(1, abs=1e-5)


def test_depth_error_ignores_scale_and_offset_and_unknown_pixels() -> None:
    truth = np.random.default_rng(0).standard_normal((20, 20)).astype(np.float32)
    assert depth_error(3 * truth + 7, truth) == pytest.approx(0, abs=1e-5)
    broken = truth.copy()
    truth = truth.copy()
    truth[:5] = np.nan
    broken[:5] += 100
    assert depth_error(broken, truth) == pytest.approx(0, abs=1e-5)
    assert math.isnan(depth_error(broken, np.full_like(truth, np.nan)))
