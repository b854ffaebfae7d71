"""Compute features of patches with the embedded EfficientNet-Lite0, DINOv2 or DreamSim."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from spie_robo.errors import ConfigError, MissingExtraError
from spie_robo.feedback.config import DREAMSIM, EMBEDDED, PATCH_STRIDES, embedded_layers
from spie_robo.feedback.judges.batches import batches, normalised
from spie_robo.feedback.judges.loading import load_model, load_processor, model_type
from spie_robo.types import RGB
from spie_robo.vision.features import encoder, images_to_tensor

_ROLE = "Patch judge"
_DINO_SIDE = 224  # pixels of the shorter side, to which the published processor crops
_DREAMSIM_MODEL = "dino_vitb16"
_DREAMSIM_FILES = ("dino_vitb16_pretrain.pth", "dino_vitb16_patch_lora")


class PatchJudge(Protocol):
    """A judge with a grid of features that covers the whole image."""

    def patches(self, images: Sequence[RGB]) -> list[Tensor]:
        """Return one grid an image, float32 (h, w, C), on the judge's device."""
        ...


@runtime_checkable
class DifferentiablePatches(Protocol):
    """A patch judge with gradients, for objectives that follow them."""

    def patches_of(self, pixels: Tensor) -> Tensor:
        """Return grids (N, h, w, C) of images (N, 3, H, W), sRGB in 0..255, on its device."""
        ...


@final
class EmbeddedPatches:
    """EfficientNet-Lite0 (ImageNet) with one feature for each ``stride`` x ``stride`` pixels.

    Stride 16 (112 channels) measures shapes and materials and hardly any colour; finer strides
    measure colour and grain, but little light, because cosine distance ignores length. Several
    strides are joined: finer ones are averaged to the coarsest grid, and the unit features of each
    are scaled so that their cosine distance is the mean of the strides'. ``color`` joins one more:
    the mean colour of a patch.
    """

    def __init__(
        self, strides: int | Sequence[int] = 16, device: str = "cpu", *, color: bool = False
    ) -> None:
        """Choose layers: strides 2, 4, 8, 16 or 32, finest first, and colour."""
        strides = (strides,) if isinstance(strides, int) else tuple(strides)
        self._levels = [PATCH_STRIDES.index(stride) for stride in strides]
        self._color, self._device = color, device
        self._encoder = encoder(device)

    @torch.no_grad()
    def patches(self, images: Sequence[RGB]) -> list[Tensor]:
        """Return features, float32 (H / stride, W / stride, C) an image, of the coarsest stride.

        Raises:
            FrameError: If an element is not a uint8 image of at least 32x32 pixels.
        """
        grids: list[Tensor] = []
        for batch in batches(images, self._device):
            grids += list(self.patches_of(images_to_tensor(batch, self._device)))
        return grids

    def patches_of(self, pixels: Tensor) -> Tensor:
        """Return grids with gradients, see :class:`DifferentiablePatches`."""
        found = self._encoder.levels_with_gradient(pixels, max(self._levels) + 1)
        chosen = [found[level] for level in self._levels]
        if self._color:
            chosen = [patch_colors(pixels, *chosen[-1].shape[-2:]), *chosen]
        if len(chosen) > 1:
            size = (chosen[-1].shape[-2], chosen[-1].shape[-1])
            scale = 1 / math.sqrt(len(chosen))
            pooled = [functional.adaptive_avg_pool2d(features, size) for features in chosen]
            units = [functional.normalize(features, dim=1) * scale for features in pooled]
            chosen = [torch.cat(units, dim=1)]
        return chosen[0].permute(0, 2, 3, 1)


def patch_colors(pixels: Tensor, down: int, across: int) -> Tensor:
    """Return the mean red, green and blue of patches, each as a direction on a half circle.

    The cosine distance of two colours is the mean of ``1 - cos(pi difference)``, differences in
    0..1: 0.05 for a tenth, 1 for a half, 2 from black to white.

    Args:
        pixels: (N, 3, H, W), sRGB in 0..255.
        down: Number of patches along the height.
        across: Number of patches along the width.

    Returns:
        (N, 6, down, across).
    """
    angles = functional.adaptive_avg_pool2d(pixels.float(), (down, across)) * (math.pi / 255)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@final
class Dinov2Patches:
    """DINOv2 (Oquab et al., arXiv 2304.07193), with or without registers, through transformers.

    Features are the patch tokens of the last layer after its norm, without CLS and register tokens.
    Images are resized so that the shorter side has 224 pixels; they are not cropped, unlike in the
    published processor, because the grid must cover the whole image of a region.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        """Load a model.

        Args:
            name: A local folder or a Hub id, e.g. ``"facebook/dinov2-base"`` (Apache-2.0).
            device: Device of the model.

        Raises:
            ConfigError: If there is no such model, or a part of it is missing or broken.
        """
        from transformers import AutoImageProcessor, AutoModel

        model_type(name, _ROLE, ("dinov2", "dinov2_with_registers"))
        self._model: Any = load_model(AutoModel, name, _ROLE, device)
        self._processor: Any = load_processor(AutoImageProcessor, name, _ROLE)
        self._device = device

    @torch.no_grad()
    def patches(self, images: Sequence[RGB]) -> list[Tensor]:
        """Return features, float32 (h, w, C) an image; its shorter side has 16 patches.

        Raises:
            FrameError: If an element is not a uint8 image.
        """
        patch = int(self._model.config.patch_size)
        extra = 1 + int(getattr(self._model.config, "num_register_tokens", 0))
        grids: list[Tensor] = []
        for batch in batches(images, self._device):
            height, width = _grid(batch[0].shape, patch)
            pixels = self._processor(
                images=batch,
                size={"height": height * patch, "width": width * patch},
                do_resize=True,
                do_center_crop=False,
                return_tensors="pt",
            )["pixel_values"]
            tokens = self._model(pixel_values=pixels.to(self._device)).last_hidden_state.float()
            grids += list(tokens[:, extra:].unflatten(1, (height, width)))
        return grids

    def patches_of(self, pixels: Tensor) -> Tensor:
        """Return grids with gradients; images are resized in PyTorch, without rounding to bytes."""
        patch = int(self._model.config.patch_size)
        extra = 1 + int(getattr(self._model.config, "num_register_tokens", 0))
        height, width = _grid(pixels.shape[-2:], patch)
        prepared = normalised(pixels, (height * patch, width * patch), self._processor)
        tokens = self._model(pixel_values=prepared).last_hidden_state.float()
        grids: Tensor = tokens[:, extra:].unflatten(1, (height, width))
        return grids


def _grid(shape: Sequence[int], patch: int) -> tuple[int, int]:
    """Return the patches (down, across) of an image (H, W, ...) resized to 224 pixels."""
    scale = _DINO_SIDE / min(shape[:2])
    height, width = (max(1, round(side * scale / patch)) for side in shape[:2])
    return height, width


@final
class DreamSimPatches:
    """DreamSim (Fu et al., arXiv 2306.09344), its DINO ViT-B/16 fine-tuned on patches.

    It uses the package ``dreamsim`` (MIT, extra ``models``). That package fetches DINO's code and
    weights from GitHub and reads ``.pth`` files, so it is used only if the user names it.
    """

    def __init__(self, folder: str = "", device: str = "cpu") -> None:
        """Load the model.

        Args:
            folder: Folder of the weights. Empty: torch's cache, filled on first use.
            device: Device of the model.

        Raises:
            MissingExtraError: If the package is not installed.
            ConfigError: If the folder is incomplete, or the weights cannot be loaded.
        """
        try:
            package = importlib.import_module("dreamsim")
        except ImportError as error:
            raise MissingExtraError(
                "Patch judge 'dreamsim' needs the package dreamsim, which is not installed "
                f"({error}). Install it with: pip install 'spie-robo[models]'"
            ) from error
        cache = _dreamsim_folder(folder)
        try:
            self._model, self._preprocess = package.dreamsim(
                pretrained=True,
                device=device,
                cache_dir=str(cache),
                dreamsim_type=_DREAMSIM_MODEL,
                use_patch_model=True,
            )
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ConfigError(f"{_ROLE} 'dreamsim': cannot be loaded: {error}") from error
        self._device = device

    @torch.no_grad()
    def patches(self, images: Sequence[RGB]) -> list[Tensor]:
        """Return features, float32 (14, 14, 768) an image, resized to 224x224 pixels.

        Raises:
            FrameError: If an element is not a uint8 image.
        """
        grids: list[Tensor] = []
        for batch in batches(images, self._device):
            pixels = torch.cat([self._preprocess(Image.fromarray(image)) for image in batch])
            # The package returns (N, 1 + patches, C); the first is the CLS token.
            tokens = self._model.embed(pixels.to(self._device)).float()[:, 1:]
            side = math.isqrt(tokens.shape[1])
            grids += list(tokens.unflatten(1, (side, side)))
        return grids


def _dreamsim_folder(folder: str) -> Path:
    """Return the folder of DreamSim's weights; one that the user names must hold them."""
    if not folder:
        cache = Path(torch.hub.get_dir()) / "dreamsim"
        cache.parent.mkdir(parents=True, exist_ok=True)
        return cache
    path = Path(folder).expanduser()
    missing = [name for name in _DREAMSIM_FILES if not (path / name).exists()]
    if missing:
        raise ConfigError(
            f"{_ROLE} 'dreamsim': folder {folder!r} lacks {', '.join(missing)}. Unpack DreamSim's "
            f"{_DREAMSIM_MODEL}_patch checkpoint there."
        )
    return path


def load_patch_judge(name: str, device: str = "cpu") -> PatchJudge:
    """Load a patch judge by name.

    Args:
        name: ``"embedded"``, ``"embedded:stride8"`` (2, 4, 8, 16, 32),
            ``"embedded:color+stride4+stride16"``, ``"dreamsim"``,
            ``"dreamsim:FOLDER"``, or a local folder or Hub id of a DINOv2 model.
        device: Device of the judge.

    Raises:
        ConfigError: If there is no such judge, or a part of it is missing or broken.
        MissingExtraError: If it needs a package that is not installed.
    """
    kind, _, detail = name.partition(":")
    if kind == EMBEDDED:
        strides, color = embedded_layers(name)
        return EmbeddedPatches(strides, device, color=color)
    if kind == DREAMSIM:
        return DreamSimPatches(detail, device)
    return Dinov2Patches(name, device)
