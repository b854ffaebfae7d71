"""Training samples for the geometry judge: rendered pictures, changed in look and in layout.

The look changes so that the judge reads geometry in any style, at any sharpness. The layout
changes, labels with it, so that the judge reports what is in the picture: a head that has only
seen tidy scenes "sees" a cube where cubes usually are, and would excuse an edit that moved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast, final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.guard import distortions
from spie_robo.guard.distortions import LabelledImage
from spie_robo.pretraining.shards import Pair, PairShards

Rng = np.random.Generator


@final
class JudgeBatch(NamedTuple):
    """A batch is what one training step sees.

    Attributes:
        images: uint8, (N, 3, S, S).
        log_depth: float32, (N, S, S), log metres; NaN where unknown.
        classes: int64, (N, S, S).
    """

    images: Tensor
    log_depth: Tensor
    classes: Tensor


def sample_batch(
    shards: PairShards, indices: NDArray[np.int64], size: int, generator: Rng
) -> JudgeBatch:
    """Draw and augment one batch.

    Args:
        shards: The rendered pairs.
        indices: The pairs to draw from.
        size: Number of samples.
        generator: Decides everything; the same state gives the same bytes.
    """
    samples = []
    for _ in range(size):
        pair, donor = (shards[int(index)] for index in generator.choice(indices, 2))
        image = change_layout(mix_domains(pair, generator), donor.twin, generator)
        samples.append(LabelledImage(change_look(image.rgb, generator), image.depth, image.classes))
    return collate(samples)


def collate(samples: Sequence[LabelledImage]) -> JudgeBatch:
    """Stack labelled images as tensors."""
    depth = np.stack([sample.depth for sample in samples])
    log_depth = np.full(depth.shape, np.nan, np.float32)
    known = np.isfinite(depth) & (depth > 0)
    log_depth[known] = np.log(depth[known])
    images = np.stack([sample.rgb.transpose(2, 0, 1) for sample in samples])
    classes = np.stack([sample.classes for sample in samples]).astype(np.int64)
    return JudgeBatch(
        torch.from_numpy(images), torch.from_numpy(log_depth), torch.from_numpy(classes)
    )


def mix_domains(pair: Pair, generator: Rng) -> LabelledImage:
    """The twin's picture, the simulator's, or a blend of the two: half-finished edits."""
    draw = generator.random()
    if draw < 0.5:
        return pair.twin
    if draw < 0.8:
        return pair.simulator
    weight = generator.random()
    blend = weight * pair.twin.rgb + (1.0 - weight) * pair.simulator.rgb
    return LabelledImage(np.rint(blend).astype(np.uint8), pair.twin.depth, pair.twin.classes)


def change_layout(image: LabelledImage, donor: LabelledImage, generator: Rng) -> LabelledImage:
    """Move, resize, remove or add an object; flip, turn or bend the picture."""
    masks = distortions.object_masks(image)
    if masks and generator.random() < 0.5:
        mask = masks[int(generator.integers(len(masks)))]
        kind = int(generator.integers(3))
        if kind == 0:
            image = distortions.shift(image, mask, generator.uniform(1, 20), generator)
        elif kind == 1:
            image = distortions.scale(image, mask, float(np.exp(generator.normal(0, 0.3))))
        else:
            image = distortions.remove(image, mask)
    donated = distortions.object_masks(donor)
    if donated and generator.random() < 0.3:
        mask = donated[int(generator.integers(len(donated)))]
        image = distortions.insert(image, donor, mask, generator)
    if generator.random() < 0.5:
        image = LabelledImage(*(np.ascontiguousarray(array[:, ::-1]) for array in _arrays(image)))
    if generator.random() < 0.4:
        image = _turn(image, generator)
    if generator.random() < 0.2:
        image = distortions.warp(image, generator.uniform(1, 8), generator)
    return image


def _arrays(image: LabelledImage) -> tuple[NDArray[np.generic], ...]:
    return image.rgb, image.depth, image.classes


def _turn(image: LabelledImage, generator: Rng) -> LabelledImage:
    """A random similarity: up to 10 degrees, 0.8 to 1.25 in scale, 10 % of the width in shift."""
    height, width = image.classes.shape
    angle, zoom = generator.uniform(-10, 10), np.exp(generator.uniform(-0.22, 0.22))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    matrix[:, 2] += generator.uniform(-0.1, 0.1, 2) * width
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return distortions.remap(
        image,
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]).astype(np.float32),
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]).astype(np.float32),
    )


def change_look(rgb: NDArray[np.uint8], generator: Rng) -> NDArray[np.uint8]:
    """Colour, uneven light, blur, loss of resolution, noise and JPEG."""
    values = (rgb.astype(np.float32) / 255.0) ** np.exp(generator.normal(0, 0.25))
    matrix = np.eye(3) * np.exp(generator.normal(0, 0.15)) + generator.normal(0, 0.07, (3, 3))
    values = values @ matrix.T.astype(np.float32)
    height, width = rgb.shape[:2]
    if generator.random() < 0.4:
        light = cv2.resize(
            generator.normal(0, 0.2, (4, 4)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        values = values * np.exp(light)[..., None]
    if generator.random() < 0.4:
        values = cv2.GaussianBlur(values, (0, 0), generator.uniform(0.3, 1.2))
    if generator.random() < 0.15:
        factor = generator.uniform(0.5, 0.9)
        values = cv2.resize(values, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    if generator.random() < 0.4:
        values = values + generator.normal(0, generator.uniform(0, 0.04), values.shape)
    changed = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    if generator.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(40, 95))]
        changed = cv2.imdecode(cv2.imencode(".jpg", changed, quality)[1], cv2.IMREAD_COLOR)
    return cast("NDArray[np.uint8]", changed)
