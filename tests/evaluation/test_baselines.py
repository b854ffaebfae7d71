from __future__ import annotations

import cv2
import numpy as np
import pytest

from spie_robo.errors import ReferencePhotoError
from spie_robo.evaluation.baselines import (
    HistogramEditor,
    IdentityEditor,
    ReinhardEditor,
    match_histograms,
)
from spie_robo.types import RGB, Frame, ImageEditor


def picture(low: int, high: int, seed: int) -> RGB:
    return np.random.default_rng(seed).integers(low, high, (32, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("editor", [IdentityEditor(), HistogramEditor(), ReinhardEditor()])
def test_all_are_image_editors(editor: ImageEditor) -> None:
    assert isinstance(editor, ImageEditor)
    frame, reference = Frame(picture(0, 120, 0)), picture(100, 250, 1)
    first, second = editor.edit([frame, frame], [reference], "look", seeds=[5, 6])
    assert first.rgb.shape == frame.rgb.shape and first.rgb.dtype == np.uint8
    assert np.array_equal(first.rgb, second.rgb)
    assert (first.seed, second.seed, first.instruction) == (5, 6, "look")


@pytest.mark.parametrize("levels", [(0, 256), (40, 60), (7, 8)])
def test_histograms_match_as_scikit_image_has_it(levels: tuple[int, int]) -> None:
    exposure = pytest.importorskip("skimage.exposure")
    image, reference = picture(*levels, seed=2), picture(90, 240, seed=3)[:20, :30]
    expected = exposure.match_histograms(image, reference, channel_axis=-1)
    np.testing.assert_array_equal(match_histograms(image, reference), expected)


def test_identity_changes_nothing() -> None:
    frame = Frame(picture(0, 256, 0))
    assert np.array_equal(IdentityEditor().edit([frame])[0].rgb, frame.rgb)


def test_histograms_become_the_reference_s() -> None:
    reference = picture(100, 250, 1)
    edited = HistogramEditor().edit([Frame(picture(0, 120, 0))], [reference])[0].rgb
    for channel in range(3):
        expected = np.percentile(reference[..., channel], [5, 50, 95])
        assert np.percentile(edited[..., channel], [5, 50, 95]) == pytest.approx(expected, abs=3)


def test_reinhard_gives_the_reference_s_mean_and_deviation() -> None:
    reference = picture(110, 170, 1)
    edited = ReinhardEditor().edit([Frame(picture(60, 200, 0))], [reference])[0].rgb
    labs = [
        cv2.cvtColor(i.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for i in (edited, reference)
    ]
    assert labs[0].mean(axis=(0, 1)) == pytest.approx(labs[1].mean(axis=(0, 1)), abs=0.5)
    assert labs[0].std(axis=(0, 1)) == pytest.approx(labs[1].std(axis=(0, 1)), abs=0.5)


def test_the_seed_chooses_the_reference() -> None:
    frame, dark, light = Frame(picture(0, 256, 0)), picture(0, 50, 1), picture(200, 250, 2)
    edits = HistogramEditor().edit([frame, frame], [dark, light], seeds=[0, 1])
    assert edits[0].rgb.mean() < 60 < 190 < edits[1].rgb.mean()


def test_missing_references_are_refused() -> None:
    with pytest.raises(ReferencePhotoError, match="reference images"):
        ReinhardEditor().edit([Frame(picture(0, 256, 0))])
