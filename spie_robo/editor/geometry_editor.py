"""Edit frames with the second embedded editor, :class:`GeometryEditor`, which reads geometry.

``frames, their geometry, photos -> edit() -> photos of the lab``, one pass of one network.

On disk::

    config.json            kind, sizes and training data
    network/               GeometryUNet, safetensors
    vae/                   the linear 8x8 autoencoder
    references.safetensors patches of the photos to follow when none are given
    README.md              the model card
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from spie_robo.editor.frame_geometry import CHANNELS, geometry_channels
from spie_robo.editor.geometry_unet import PATCH, GeometryUNet
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.editor.photo_check import load_references
from spie_robo.editor.photo_files import photo_key
from spie_robo.editor.protect import hold_chroma, protected_mask
from spie_robo.editor.reference_tokens import PHOTO_SIZE, describe_patches
from spie_robo.editor.references import (
    REFERENCES_FILE,
    PhotoReferences,
    cover,
    to_image,
    to_tensor,
)
from spie_robo.editor.resolution import restore, shrink, working_size
from spie_robo.errors import ConfigError, EditorError
from spie_robo.types import RGB, EditResult, Frame, References

KIND = "geometry-editor"
MULTIPLE = 4 * PATCH
INSTRUCTION = "make it look like a photo of the lab"
_MOST_TOKENS = 2048
"""Most patches to follow, as many as eight photos have; of more photos they are chosen evenly."""

_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, eq=False)
class GeometryNetworks:
    """The networks of the editor, which training uses too.

    Attributes:
        unet: Network that predicts the edit.
        vae: Linear autoencoder of patches.
    """

    unet: GeometryUNet
    vae: PatchAutoencoder

    def paint(self, images: Tensor, geometry: Tensor, patches: Tensor, noise: Tensor) -> Tensor:
        """Edit a batch, with gradients.

        Args:
            images: (B, 3, H, W) in [-1, 1]; H and W multiples of 32.
            geometry: (B, 6, H, W).
            patches: (B, T, D), patches of the photos.
            noise: (B, noise channels, H / 8, W / 8).

        Returns:
            (B, 3, H, W), about [-1, 1].
        """
        latents = self.vae.encode(images).latent_dist.mode()
        edited = self.unet(latents, geometry, patches, noise)
        decoded: Tensor = self.vae.decode(edited, return_dict=False)[0]
        return self.unet.finish(decoded, images, geometry)


@final
class GeometryEditor:
    """An editor that follows photos, with one network in one pass.

    An edit is a function of (frame, geometry, photos, editor, seed). It follows all photos
    together, whatever their order. There is no text encoder.

    Args:
        networks: The networks; they must not change afterwards.
        name: Name that :attr:`id` starts with.
        patches: (T, D), patches of the photos to follow when ``edit`` is given none.
        resolution: Side of a square with about as many pixels as the working image.
        protect: Instance ids or object names whose chroma edits must keep.

    Example::

        editor = GeometryEditor.from_pretrained("runs/geometry_editor/editor")
        edit = editor.edit([Frame(rgb, geometry=geometry)], references="my_lab_photos/")[0]
    """

    instruction = INSTRUCTION

    def __init__(
        self,
        networks: GeometryNetworks,
        name: str,
        patches: Tensor | None = None,
        resolution: int = 256,
        protect: Sequence[int | str] = (),
    ) -> None:
        """Take over the networks, which must not change afterwards."""
        self.networks, self.name, self.resolution = networks, name, resolution
        self.protect = tuple(protect)
        self._own_patches = patches
        self._described: tuple[object, Tensor] | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        protect: Sequence[int | str] = (),
    ) -> GeometryEditor:
        """Load an exported folder.

        Args:
            folder: Folder that :meth:`save` wrote; or an editor's :attr:`id`, and the weights must
                then have its hash.
            device: Device of the networks.
            protect: Instance ids or object names whose chroma edits must keep.

        Raises:
            EditorError: If it is missing or broken, or has another hash.
        """
        folder, digest = _split_folder(str(folder))
        try:
            config = json.loads((folder / "config.json").read_text())
            if config["kind"] != KIND:
                raise ValueError(f"expected kind {KIND!r}, got {config['kind']!r}")
            unet = GeometryUNet.from_pretrained(folder / "network", local_files_only=True)
            vae = PatchAutoencoder.from_pretrained(folder / "vae", local_files_only=True)
            path = folder / REFERENCES_FILE
            patches = load_file(path)["patches"].float() if path.is_file() else None
        except _BROKEN as error:
            raise EditorError(
                f"Cannot load a geometry editor from {folder}: {error} Expected config.json, "
                "network/ and vae/ as GeometryEditor.save writes them."
            ) from error
        networks = GeometryNetworks(unet.float().to(device).eval(), vae.float().to(device).eval())
        editor = cls(networks, str(folder), patches, int(config["resolution"]), protect)
        if not editor.weights_hash.startswith(digest):
            raise EditorError(
                f"Editor {folder}: expected weights {digest}, these are "
                f"{editor.weights_hash[:8]}. They changed since the id was recorded."
            )
        return editor

    def save(self, folder: str | Path) -> None:
        """Write an exported folder, with weights in half precision."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"kind": KIND, "resolution": self.resolution}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        _half(self.networks.unet).save_pretrained(folder / "network")
        self.networks.vae.save_pretrained(folder / "vae")
        if self._own_patches is not None:
            patches = self._own_patches.detach().cpu().half().contiguous()
            save_file({"patches": patches}, folder / REFERENCES_FILE)

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 in hex over names, shapes and values of all weights."""
        digest = hashlib.sha256()
        for part in (self.networks.unet, self.networks.vae):
            for name, tensor in sorted(part.state_dict().items()):
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def id(self) -> str:
        """Name and hash of the editor, ``name@hash``."""
        return f"{self.name}@{self.weights_hash[:8]}"

    @property
    def description(self) -> dict[str, Any]:
        """Settings that edits depend on beside :attr:`id`, in plain values."""
        own = self._own_patches
        digest = None if own is None else hashlib.sha256(own.cpu().numpy().tobytes()).hexdigest()
        return {
            "resolution": self.resolution,
            "references": digest,
            "protect": list(self.protect),
        }

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Edit frames one by one.

        Args:
            frames: Frames of any sizes from 16x16 on; their geometry is used where known.
            references: A folder or file of photos, or images, any number; None: the editor's own.
            instruction: Leave it out, because this editor follows only photos.
            seeds: One seed a frame; None: 0 for all.

        Returns:
            One result a frame, in order.

        Raises:
            ConfigError: If there is an instruction, no photo, or not one seed a frame.
            ReferencePhotoError: If there are no usable photos.
            FrameError: If a protected object is missing in the geometry of a frame.
        """
        if instruction not in (None, INSTRUCTION):
            raise ConfigError(
                f"instruction: this editor follows photos alone, got {instruction!r}. Leave the "
                "instruction out, or use the editor 'embedded'."
            )
        seeds = [0] * len(frames) if seeds is None else [int(seed) for seed in seeds]
        if len(seeds) != len(frames):
            raise ConfigError(f"seeds: expected one a frame ({len(frames)}), got {len(seeds)}.")
        patches = self._patches(references)
        return [
            EditResult(self._edit(frame, patches, seed), seed, INSTRUCTION, self.id, 1)
            for frame, seed in zip(frames, seeds, strict=True)
        ]

    def _edit(self, frame: Frame, patches: Tensor, seed: int) -> RGB:
        mask = protected_mask(frame, self.protect) if self.protect else None
        edited = self._paint(frame, patches, seed)
        return edited if mask is None else hold_chroma(edited, frame.rgb, mask)

    @torch.no_grad()
    def _paint(self, frame: Frame, patches: Tensor, seed: int) -> RGB:
        height, width = frame.rgb.shape[:2]
        size = working_size(height, width, self.resolution, MULTIPLE)
        unet = self.networks.unet
        image = to_tensor(shrink(frame.rgb, size))[None].to(unet.device)
        shape = (1, unet.config.noise_channels, size[0] // PATCH, size[1] // PATCH)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        geometry = frame_channels(frame, size)
        edited = self.networks.paint(
            image, geometry.to(unet.device), patches[None].to(unet.device), noise.to(unet.device)
        )
        if not torch.isfinite(edited).all():
            raise EditorError(f"Editor {self.id}: the network returned NaN. Check the weights.")
        return restore(to_image(edited[0].cpu()), frame.rgb)

    def keep_photos(self, references: str | Path, photos: PhotoReferences) -> None:
        """Keep photos that were read already, for as long as their files do not change.

        Args:
            references: Folder or file of the photos.
            photos: The photos that were read from it.
        """
        self._described = (photo_key(references), photo_patches(self.networks.vae, photos))

    def _patches(self, references: References | None) -> Tensor:
        """Return the patches of all photos, (T, D), read again only if a file changed."""
        if references is None:
            if self._own_patches is None:
                raise ConfigError("references: this editor has no photos of its own; give some.")
            return self._own_patches
        if isinstance(references, (str, Path)):
            key: object = photo_key(references)
            if self._described is None or self._described[0] != key:
                self.keep_photos(references, load_references(references))
        else:
            photos = load_references(references)
            if self._described is None or self._described[0] != photos.digest:
                self._described = (photos.digest, photo_patches(self.networks.vae, photos))
        assert self._described is not None
        return self._described[1]


def is_geometry_editor(name: str) -> bool:
    """Return whether a name or id is that of a folder with a geometry editor."""
    try:
        config = json.loads((_split_folder(name)[0] / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("kind") == KIND


def _split_folder(name: str) -> tuple[Path, str]:
    """Split ``folder@hash``; an existing folder is always a name."""
    match = re.fullmatch(r"(.+)@([0-9a-f]{8})", name)
    if match is None or Path(name).is_dir():
        return Path(name), ""
    return Path(match[1]), match[2]


def photo_patches(vae: PatchAutoencoder, photos: PhotoReferences) -> Tensor:
    """Describe the patches of all photos, (T, D), each photo cropped to a square."""
    images = [to_tensor(cover(image, PHOTO_SIZE, PHOTO_SIZE)) for image in photos.images]
    patches = describe_patches(vae, torch.stack(images).to(vae.device)).flatten(0, 1)
    return patches[:: math.ceil(len(patches) / _MOST_TOKENS)]


def frame_channels(frame: Frame, size: tuple[int, int]) -> Tensor:
    """Return a frame's geometry at a working size, (1, 6, height, width); zeros if unknown."""
    geometry = frame.geometry
    if geometry is None or geometry.depth is None:
        return torch.zeros(1, CHANNELS, *size)
    depth = _resized(torch.from_numpy(geometry.depth).float(), size)
    instances = None
    if geometry.segmentation is not None:
        instances = _resized(torch.from_numpy(geometry.segmentation).float(), size).long()
        depth = torch.where(instances < 0, torch.zeros_like(depth), depth)
    height = frame.rgb.shape[0]
    focal = height if geometry.intrinsics is None else float(geometry.intrinsics[1, 1])
    return geometry_channels(depth, instances, torch.tensor([focal * size[0] / height]))


def _resized(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize to (1, height, width) by the nearest value, since depths and ids do not mix."""
    if tuple(plane.shape) == size:
        return plane[None]
    return functional.interpolate(plane[None, None], size, mode="nearest-exact")[0]


def _half(unet: GeometryUNet) -> GeometryUNet:
    copied: GeometryUNet = copy.deepcopy(unet)
    return cast("GeometryUNet", copied.half())
