"""Score edits by learned models of people's preferences: PickScore, HPSv2 and ImageReward.

The models were trained on pictures made from text, so their scores of robot frames are only hints.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, final

import torch
from PIL import Image

from spie_robo.errors import MissingExtraError
from spie_robo.evaluation.embeddings import Clip
from spie_robo.types import RGB


class PreferenceModel(Protocol):
    """A model that predicts how well pictures please someone who asked for a text."""

    @property
    def key(self) -> str:
        """Key of its metric in ``table.METRICS``."""
        ...

    def score(self, images: Sequence[RGB], text: str) -> list[float]:
        """Return one score an image, higher is better."""
        ...


@final
class PickScore:
    """Kirstain et al., "Pick-a-Pic", NeurIPS 2023: a CLIP model tuned on people's choices.

    ``s = exp(logit_scale) * cos(text, image)``

    Args:
        model: A folder, or the Hub id ``yuvalkirstain/PickScore_v1``.
        device: Device of the model.

    Raises:
        ConfigError: If there is no such model.
    """

    key = "pick_score"

    def __init__(self, model: str, device: str = "cpu") -> None:
        """Load the model."""
        self.clip = Clip(model, device, role="PickScore")

    def score(self, images: Sequence[RGB], text: str) -> list[float]:
        """Return one score an image, higher is better."""
        similarity = self.clip.images(images) @ self.clip.texts([text])[0]
        return [float(value) for value in self.clip.scale * similarity]


@final
class HumanPreferenceScore:
    """Wu et al., "Human Preference Score v2", 2023, through the package ``hpsv2``.

    The package downloads its weights at the first call.

    Raises:
        MissingExtraError: If the package is not installed.
    """

    key = "hps"

    def __init__(self) -> None:
        """Import the package."""
        self._package = _import("hpsv2", "hpsv2", "--hps")

    def score(self, images: Sequence[RGB], text: str) -> list[float]:
        """Return one score an image, higher is better."""
        pictures = [Image.fromarray(image) for image in images]
        scores = self._package.score(pictures, text, hps_version="v2.1")
        return [float(score) for score in scores]


@final
class ImageReward:
    """Xu et al., "ImageReward", NeurIPS 2023, through the package ``image-reward``.

    The package downloads its weights when the model is made.

    Raises:
        MissingExtraError: If the package is not installed.
    """

    key = "image_reward"

    def __init__(self, device: str = "cpu") -> None:
        """Load the model."""
        package = _import("ImageReward", "image-reward", "--image-reward")
        self._model = package.load("ImageReward-v1.0", device=device)

    @torch.no_grad()
    def score(self, images: Sequence[RGB], text: str) -> list[float]:
        """Return one score an image, higher is better."""
        return [float(self._model.score(text, Image.fromarray(image))) for image in images]


def _import(module: str, package: str, flag: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{flag} needs the package {package} ({error}). Install it with `pip install "
            f"{package}`, or leave {flag} out."
        ) from error
