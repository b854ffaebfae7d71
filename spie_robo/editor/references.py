"""Turn reference photos from files or arrays into the latents that the visual prompt reads.

``folder, file or arrays -> load_references() -> PhotoReferences`` (:mod:`.photo_check`)
``references.safetensors -> LatentReferences``; both give ``latents(vae, height, width)``.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spie_robo.editor.latents import decode_image, encode_image
from spie_robo.editor.photo_decoding import decode_photo
from spie_robo.editor.resolution import shrink
from spie_robo.errors import ReferencePhotoError
from spie_robo.files.permissions import share_weights
from spie_robo.types import RGB

REFERENCES_FILE = "references.safetensors"

logger = logging.getLogger(__name__)


class ReferenceSet(ABC):
    """A non-empty set of reference photos."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the content, in hex; equal sets give equal latents."""

    @abstractmethod
    def latents(self, vae: AutoencoderKL, height: int, width: int) -> Tensor:
        """Return unscaled VAE latents (N, C, h, w) of the photos, cropped to (height, width)."""


@final
@dataclass(frozen=True, eq=False)
class PhotoReferences(ReferenceSet):
    """A set of photos as images.

    Attributes:
        images: uint8 (H, W, 3) each; sizes may differ.
    """

    images: tuple[RGB, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and pixels."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def latents(self, vae: AutoencoderKL, height: int, width: int) -> Tensor:
        """Encode the photos one by one, so that their latents do not depend on each other."""
        images = [to_tensor(cover(image, height, width)) for image in self.images]
        return torch.cat([encode_image(vae, image[None].to(vae.device)) for image in images])


@final
@dataclass(frozen=True, eq=False)
class LatentReferences(ReferenceSet):
    """A set of photos as latents, as they are stored with an editor.

    Attributes:
        stored: (N, C, h, w), unscaled VAE latents.
    """

    stored: Tensor

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and values."""
        digest = hashlib.sha256(repr(tuple(self.stored.shape)).encode())
        digest.update(self.stored.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def latents(self, vae: AutoencoderKL, height: int, width: int) -> Tensor:
        """Return the latents; for another size decode, crop and encode them again."""
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        stored = self.stored.to(device=vae.device, dtype=vae.dtype)
        if stored.shape[1] != vae.config.latent_channels:
            raise ReferencePhotoError(
                f"{REFERENCES_FILE}: expected latents of {vae.config.latent_channels} channels, "
                f"got {stored.shape[1]}. They were made by another editor's VAE."
            )
        if (stored.shape[2] * factor, stored.shape[3] * factor) == (height, width):
            return stored
        return PhotoReferences(self.images(vae)).latents(vae, height, width)

    @torch.no_grad()
    def images(self, vae: AutoencoderKL) -> tuple[RGB, ...]:
        """Return the decoded photos, uint8 (height, width, 3) each."""
        stored = self.stored.to(device=vae.device, dtype=vae.dtype)
        return tuple(to_image(decode_image(vae, latent[None])[0]) for latent in stored)

    def save(self, folder: Path) -> None:
        """Write ``references.safetensors`` into a folder, in half precision."""
        stored = self.stored.detach().cpu().half().contiguous()
        save_file({"latents": stored}, folder / REFERENCES_FILE)
        share_weights(folder / REFERENCES_FILE)

    @classmethod
    def load(cls, folder: Path) -> LatentReferences | None:
        """Read ``references.safetensors`` of a folder; None if the folder has none.

        Raises:
            ReferencePhotoError: If the file is broken.
        """
        path = folder / REFERENCES_FILE
        if not path.is_file():
            return None
        try:
            stored = load_file(path)["latents"].float()
        except (SafetensorError, OSError, KeyError) as error:
            raise ReferencePhotoError(
                f"{path}: expected a safetensors file with 'latents', got {error!r}."
            ) from error
        if stored.ndim != 4 or not len(stored) or not torch.isfinite(stored).all():
            raise ReferencePhotoError(
                f"{path}: expected finite latents of shape (N, C, h, w), got {tuple(stored.shape)}."
            )
        return cls(stored)


def read_photo(path: Path) -> RGB:
    """Read one photo upright, in sRGB, without alpha, at most about 2048 pixels a side.

    A colour profile that cannot be used is logged.

    Args:
        path: A JPEG or PNG file.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ReferencePhotoError: If the file cannot be decoded, or is tiny.
    """
    photo = decode_photo(path)
    if photo.note:
        logger.warning("%s", photo.note)
    return photo.image


def cover(image: RGB, height: int, width: int) -> RGB:
    """Resize and centre-crop an image to fill (height, width) without stretching."""
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    resized = shrink(image, size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return resized[top : top + height, left : left + width]


def choose_reference(count: int, seed: int) -> int:
    """Return which of ``count`` references an edit with this seed follows.

    The draw has its own generator, so that it does not shift the noise of the same seed.
    """
    generator = torch.Generator().manual_seed(seed)
    return int(torch.randint(count, (), generator=generator))


def to_tensor(image: RGB) -> Tensor:
    """Convert uint8 (H, W, 3) to float32 (3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return pixels.float() / 127.5 - 1


def to_image(tensor: Tensor) -> RGB:
    """Convert float (3, H, W), about [-1, 1], to uint8 (H, W, 3)."""
    pixels = ((tensor.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return pixels.permute(1, 2, 0).to(torch.uint8).numpy()
