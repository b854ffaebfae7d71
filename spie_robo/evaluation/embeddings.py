"""Compare edits in CLIP's space, and their patches by CLIP, DINOv2 or DreamSim.

``images -> Clip.images / Clip.texts (pooled) or a PatchJudge's patches -> similarities per frame``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from spie_robo.feedback.judges.loading import load_model, load_processor, model_type
from spie_robo.feedback.judges.patches import PatchJudge
from spie_robo.types import RGB

Values = NDArray[np.float64]
"""One value a frame."""

_BATCH = 16


@final
class Clip:
    """A CLIP model: vectors of images and texts in one space, and vectors of image patches.

    Args:
        model: Folder or Hub id of a CLIP model with its processor.
        device: Device of the model.
        role: Purpose of the model, for error messages.

    Raises:
        ConfigError: If there is no such model, or weights are missing.
    """

    def __init__(self, model: str, device: str = "cpu", role: str = "CLIP") -> None:
        """Load model and processor."""
        from transformers import CLIPModel, CLIPProcessor

        model_type(model, role, ("clip",))
        self._model: Any = load_model(CLIPModel, model, role, device)
        self._processor: Any = load_processor(CLIPProcessor, model, role)
        self._device = device

    @property
    def scale(self) -> float:
        """``exp(logit_scale)``, by which the model multiplies cosines."""
        return float(self._model.logit_scale.exp())

    @torch.no_grad()
    def images(self, images: Sequence[RGB]) -> Tensor:
        """Return unit vectors (N, D) of images."""
        vectors = [
            self._model.visual_projection(self._vision(batch).pooler_output)
            for batch in _batches(images)
        ]
        return normalize(torch.cat(vectors).float().cpu(), dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D) of texts, cut to the model's maximum length."""
        tokens = self._processor(
            text=list(texts), return_tensors="pt", padding=True, truncation=True
        ).to(self._device)
        pooled = self._model.text_model(**tokens).pooler_output
        return normalize(self._model.text_projection(pooled).float().cpu(), dim=-1)

    @torch.no_grad()
    def patches(self, images: Sequence[RGB]) -> list[Tensor]:
        """Return the last patch vectors, (h, w, C) an image, as a ``PatchJudge`` does."""
        grids: list[Tensor] = []
        for batch in _batches(images):
            tokens = self._vision(batch).last_hidden_state[:, 1:].float().cpu()  # 0: the class
            side = round(tokens.shape[1] ** 0.5)
            grids += list(tokens.unflatten(1, (side, side)))
        return grids

    def _vision(self, images: Sequence[RGB]) -> Any:
        pictures = [Image.fromarray(image) for image in images]
        pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        return self._model.vision_model(pixel_values=pixels.to(self._device, self._model.dtype))


def text_similarity(clip: Clip, images: Sequence[RGB], text: str) -> Values:
    """Return ``cos(E_I(edit), E_T(text))`` of each image (Radford et al., 2021).

    Args:
        clip: The model.
        images: uint8, (height, width, 3) each.
        text: Description that the edits should match.
    """
    return _numpy(clip.images(images) @ clip.texts([text])[0])


def directional_similarity(
    clip: Clip, images: Sequence[RGB], inputs: Sequence[RGB], text: str, source_text: str
) -> Values:
    """Compare the direction of the pictures' change with that of the texts.

    It is ``cos(E_I(edit) - E_I(input), E_T(text) - E_T(source_text))`` (Gal et al., StyleGAN-NADA).

    Args:
        clip: The model.
        images: The edits.
        inputs: Frames that the edits were made from.
        text: Description that the edits should match.
        source_text: Description of the inputs.

    Returns:
        One value a frame; NaN where the edit equals its input, which has no direction.
    """
    change = clip.images(images) - clip.images(inputs)
    texts = clip.texts([text, source_text])
    direction = normalize(texts[0] - texts[1], dim=-1)
    length = change.norm(dim=-1)
    values = (change @ direction) / length
    return _numpy(torch.where(length > 1e-6, values, torch.nan))


def style_similarity(judge: PatchJudge, images: Sequence[RGB], photos: Sequence[RGB]) -> Values:
    """Return the mean cosine between patches of each edit and of *its reference photo*.

    ``mean_ij cos(f_i(edit), f_j(photo))`` over all pairs: a photo is not aligned with a frame.

    Args:
        judge: Judge of the patches.
        images: The edits.
        photos: Reference photo of each edit.
    """
    # The mean over all pairs is the product of the mean unit vectors.
    means = [normalize(grid, dim=-1).mean(dim=(0, 1)) for grid in _grids(judge, images)]
    targets = [normalize(grid, dim=-1).mean(dim=(0, 1)) for grid in _grids(judge, photos)]
    return np.array([float(a @ b) for a, b in zip(means, targets, strict=True)])


def input_similarity(judge: PatchJudge, images: Sequence[RGB], inputs: Sequence[RGB]) -> Values:
    """Return the mean cosine between patches of each edit and of *its input* at the same place.

    ``mean_i cos(f_i(edit), f_i(input))``

    Args:
        judge: Judge of the patches.
        images: The edits.
        inputs: Frames that the edits were made from, of the same sizes.
    """
    pairs = zip(_grids(judge, images), _grids(judge, inputs), strict=True)
    return np.array(
        [float((normalize(a, dim=-1) * normalize(b, dim=-1)).sum(-1).mean()) for a, b in pairs]
    )


def _grids(judge: PatchJudge, images: Sequence[RGB]) -> Iterator[Tensor]:
    """Yield the patches of each image; a repeated image is judged once."""
    distinct = {id(image): image for image in images}
    grids: dict[int, Tensor] = {}
    for batch in _batches(list(distinct.values())):
        for image, grid in zip(batch, judge.patches(batch), strict=True):
            grids[id(image)] = grid
    return (grids[id(image)] for image in images)


def _batches(images: Sequence[RGB]) -> Iterator[Sequence[RGB]]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))


def _numpy(values: Tensor) -> Values:
    return cast("Values", values.double().numpy())
