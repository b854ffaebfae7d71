"""Offer three baselines without a learned editor, as ``types.ImageEditor``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, final

import cv2
import numpy as np

from spie_robo.errors import FrameError, ReferencePhotoError
from spie_robo.types import RGB, EditResult, Frame, References, check_image


@final
@dataclass(frozen=True)
class IdentityEditor:
    """An editor that returns the raw frame."""

    id: str = "raw"

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Return every frame as it is."""
        return _edit_each(self.id, lambda image, _: image, frames, None, instruction, seeds)


@final
@dataclass(frozen=True)
class HistogramEditor:
    """An editor that gives each colour channel the reference's histogram (scikit-image)."""

    id: str = "match-histograms"

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Match each frame to reference ``seed`` modulo the number of references.

        Raises:
            ReferencePhotoError: If ``references`` is not a sequence of images.
        """
        photos = _images(references)
        return _edit_each(self.id, match_histograms, frames, photos, instruction, seeds)


@final
@dataclass(frozen=True)
class ReinhardEditor:
    """An editor that gives each frame the reference's mean and deviation of colour."""

    id: str = "reinhard"

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Transfer to each frame the colours of reference ``seed`` modulo their number.

        Raises:
            ReferencePhotoError: If ``references`` is not a sequence of images.
        """
        photos = _images(references)
        return _edit_each(self.id, reinhard, frames, photos, instruction, seeds)


def match_histograms(image: RGB, reference: RGB) -> RGB:
    """Give each channel of an image the histogram of the reference's.

    Equal to ``skimage.exposure.match_histograms``, which the package would need for this alone:
    each level becomes the level of the reference with the same share of pixels below it.

    Args:
        image: uint8, (H, W, 3).
        reference: uint8, (h, w, 3), of any size.
    """
    matched = np.empty_like(image)
    for channel in range(image.shape[-1]):
        own, target = (
            np.cumsum(np.bincount(part[..., channel].ravel(), minlength=256)) / part[..., 0].size
            for part in (image, reference)
        )
        present = np.flatnonzero(np.diff(target, prepend=0))
        levels = np.interp(own, target[present], present)
        matched[..., channel] = levels.astype(np.uint8)[image[..., channel]]
    return matched


def reinhard(image: RGB, reference: RGB) -> RGB:
    """Transfer mean and deviation of colour, in CIELAB.

    ``c' = (c - mean(c)) * std(reference) / std(c) + mean(reference)`` for each channel c. Source:
    Reinhard, Ashikhmin, Gooch, Shirley, "Color transfer between images", IEEE CG&A 2001, which
    works in l-alpha-beta; CIELAB is usual today.

    Args:
        image: uint8, (H, W, 3).
        reference: uint8, (h, w, 3), of any size.
    """
    source = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    target = cv2.cvtColor(reference.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    spread = np.maximum(source.std(axis=(0, 1)), 1e-6)
    scaled = (source - source.mean(axis=(0, 1))) * (target.std(axis=(0, 1)) / spread)
    lab = (scaled + target.mean(axis=(0, 1))).astype(np.float32)
    lab[..., 0] = np.clip(lab[..., 0], 0, 100)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return cast(RGB, np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _images(references: References | None) -> list[RGB]:
    if references is None or isinstance(references, str | Path) or len(references) == 0:
        raise ReferencePhotoError(
            f"Expected reference images as arrays, got {references!r}. Load the photos first."
        )
    for index, image in enumerate(references):
        check_image(image, f"reference {index}")
    return list(references)


def _edit_each(
    editor_id: str,
    transfer: Callable[[RGB, RGB], RGB],
    frames: Sequence[Frame],
    references: list[RGB] | None,
    instruction: str | None,
    seeds: Sequence[int] | None,
) -> list[EditResult]:
    chosen = [0] * len(frames) if seeds is None else list(seeds)
    if len(chosen) != len(frames):
        raise FrameError(f"Expected one seed a frame: {len(frames)} frames, {len(chosen)} seeds.")
    results = []
    for frame, seed in zip(frames, chosen, strict=True):
        reference = frame.rgb if references is None else references[seed % len(references)]
        edited = transfer(frame.rgb, reference)
        results.append(EditResult(edited, seed, instruction or "", editor_id, 0))
    return results
