"""Edit frames in the look of reference photos with :class:`Editor`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

from spie_robo.editor.digest import weights_digest
from spie_robo.editor.photo_check import load_references
from spie_robo.editor.photo_files import photo_key
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.presets import load_editor
from spie_robo.editor.protect import hold_chroma, protected_mask
from spie_robo.editor.references import (
    ReferenceSet,
    choose_reference,
    to_image,
    to_tensor,
)
from spie_robo.editor.resolution import hold_detail, restore, shrink, working_size
from spie_robo.editor.samplers import supported_scheduler
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import ConfigError, EditorError
from spie_robo.types import RGB, EditResult, Frame, References

_CACHED = 8  # sets of references, and texts; one or two are usual


@final
class Editor:
    """An editor of camera frames, which follows an instruction and reference photos.

    An edit is a function of (frame, references, instruction, editor, seed): each frame's noise has
    its own generator, and with ``batch_size`` 1 no bit depends on the other frames.

    Args:
        pipeline: The networks, used as they are; they must not change afterwards.
        name: Name that :attr:`id` starts with and that ``from_pretrained`` takes.
        settings: See :class:`.settings.EditorSettings`.
        references: Photos to use when ``edit`` is given none; None: no visual prompt.
        protect: Instance ids or object names whose chroma edits must keep.
        weights_hash: Hash of the weights that the pipeline was made from; None hashes its weights.

    Raises:
        ConfigError: If the settings do not fit the pipeline's scheduler.

    Example::

        editor = Editor.from_pretrained("embedded")
        edit = editor.edit([Frame(rgb)], references="my_lab_photos/", seeds=[0])[0]
    """

    def __init__(
        self,
        pipeline: SpiePipeline,
        name: str,
        settings: EditorSettings | None = None,
        references: ReferenceSet | None = None,
        protect: Sequence[int | str] = (),
        weights_hash: str | None = None,
    ) -> None:
        """Take over a pipeline and set its scheduler."""
        if weights_hash is not None:
            self.weights_hash = weights_hash
        self.pipeline = pipeline
        self.name = name
        self.settings = settings or EditorSettings()
        self.references = references
        self.protect = tuple(protect)
        self._convert_scheduler()
        self._photos: dict[object, ReferenceSet] = {}
        self._latents: dict[tuple[str, int, int], Tensor] = {}
        self._texts: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        base: str | None = None,
        settings: EditorSettings | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        protect: Sequence[int | str] = (),
    ) -> Editor:
        """Load an editor.

        Args:
            name: ``"embedded"``; ``"embedded-labs"``, the same with photos of ten labs, one of
                which each seed picks; a pipeline or adapter folder; or a Hub id. An editor's
                :attr:`id` works too, and the weights must then have its hash.
            device: Device of the networks; None: CUDA if available.
            dtype: Type of the weights.
            base: For an adapter: base to use instead of the one that it names. A LoRA that
                diffusers or peft wrote needs it.
            settings: Settings that replace the editor's own.
            steps: Number of denoising steps, in place of the settings'.
            batch_size: Frames in one forward pass, in place of the settings'.
            protect: Instance ids or object names whose chroma edits must keep.

        Raises:
            EditorError: If there is no such editor, or it is broken or has another hash.
            ConfigError: If a setting is invalid.
        """
        name, digest = _split_id(str(name))
        loaded = load_editor(name, base=base, dtype=dtype)
        chosen = settings or loaded.settings
        chosen = replace(
            chosen,
            steps=chosen.steps if steps is None else steps,
            batch_size=chosen.batch_size if batch_size is None else batch_size,
        )
        loaded.pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        editor = cls(loaded.pipeline, name, chosen, loaded.references, protect, loaded.weights_hash)
        if digest and not editor.weights_hash.startswith(digest):
            raise EditorError(
                f"Editor {name!r}: expected weights {digest}, these are "
                f"{editor.weights_hash[:8]}. They changed since the id was recorded."
            )
        return editor

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 in hex of all weights; for an adapter, of adapter and base before merging."""
        return weights_digest(self.pipeline)

    @property
    def id(self) -> str:
        """Name and hash, ``name@hash``: with equal ids and settings, edits are equal."""
        return f"{self.name}@{self.weights_hash[:8]}"

    @property
    def instruction(self) -> str:
        """Text that edits follow if no other is given."""
        return self.settings.instruction

    @property
    def description(self) -> dict[str, Any]:
        """Settings that edits depend on beside :attr:`id`, in plain values, for a store."""
        return {
            "settings": asdict(self.settings),
            "references": None if self.references is None else self.references.digest,
            "protect": list(self.protect),
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Editor:
        """Return the editor itself: it does not change, so copies of an env's spec share it."""
        return self

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
        protect: Sequence[int | str] | None = None,
    ) -> list[EditResult]:
        """Edit frames in the look of the references.

        Args:
            frames: Frames of any sizes from 16x16 on; see :mod:`.resolution`.
            references: A folder or file of photos, or images; None: the editor's own. Each seed
                picks one photo of the set.
            instruction: Text to follow; None: the editor's own.
            seeds: One seed a frame; None: 0 for all, so that the look stays the same.
            protect: As in the constructor; None: the constructor's.

        Returns:
            One result a frame, in order.

        Raises:
            ConfigError: If there is not one seed a frame.
            ReferencePhotoError: If there are no usable photos.
            FrameError: If a protected object is missing in the geometry of a frame.
            EditorError: If the networks return NaN.
        """
        # Complete the arguments from the editor's settings.
        seeds = [0] * len(frames) if seeds is None else [int(seed) for seed in seeds]
        if len(seeds) != len(frames):
            raise ConfigError(f"seeds: expected one a frame ({len(frames)}), got {len(seeds)}.")
        protect = self.protect if protect is None else protect
        masks = [protected_mask(frame, protect) if protect else None for frame in frames]
        text = self.settings.instruction if instruction is None else instruction
        photos = self.references if references is None else self._load(references)
        # Edit at working resolution, then restore each frame's size and protected colours.
        raw = [frame.rgb for frame in frames]
        results = []
        for image, mask, edit, seed in zip(
            raw, masks, self._edit_images(raw, photos, text, seeds), seeds, strict=True
        ):
            rgb = restore(edit, image)
            rgb = rgb if mask is None else hold_chroma(rgb, image, mask)
            results.append(EditResult(rgb, seed, text, self.id, self.settings.steps))
        return results

    def _edit_images(
        self, images: Sequence[RGB], photos: ReferenceSet | None, text: str, seeds: Sequence[int]
    ) -> list[RGB]:
        """Edit at working resolution, in batches of images of one working size."""
        resolution, multiple = self.settings.resolution, self.pipeline.size_multiple
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            size = working_size(image.shape[0], image.shape[1], resolution, multiple)
            groups.setdefault(size, []).append(index)
        edits: dict[int, RGB] = {}
        for size, members in groups.items():
            for start in range(0, len(members), self.settings.batch_size):
                batch = members[start : start + self.settings.batch_size]
                shrunk = [shrink(images[i], size) for i in batch]
                tensors = torch.stack([to_tensor(image) for image in shrunk])
                outputs = self._run(tensors, photos, text, [seeds[i] for i in batch])
                for i, image, output in zip(batch, shrunk, outputs, strict=True):
                    edits[i] = hold_detail(to_image(output), image, self.settings.frame_detail)
        return [edits[index] for index in range(len(images))]

    def _run(
        self, images: Tensor, photos: ReferenceSet | None, text: str, seeds: Sequence[int]
    ) -> Tensor:
        style = None
        if photos is not None:
            latents = self._reference_latents(photos, images.shape[2], images.shape[3])
            style = latents[[choose_reference(len(latents), seed) for seed in seeds]]
        output = self.pipeline(
            images.to(self.pipeline.vae.dtype),
            [text] * len(seeds),
            [torch.Generator().manual_seed(seed) for seed in seeds],
            style_latents=style,
            guidance=self.settings.guidance,
            steps=self.settings.steps,
            eta=self.settings.eta,
            initial_noise=self.settings.initial_noise,
            encode_text=self._encode_text,
        )
        if not torch.isfinite(output).all():
            raise EditorError(
                f"Editor {self.id}: the networks returned NaN. Use dtype float32, or "
                "check the weights."
            )
        return output.cpu()

    def _load(self, references: References) -> ReferenceSet:
        """Load photos; a folder is read again only if a file in it changed."""
        if not isinstance(references, (str, Path)):
            return load_references(references)
        key = photo_key(references)
        if key not in self._photos:
            self.keep_photos(references, load_references(references))
        return self._photos[key]

    def keep_photos(self, references: str | Path, photos: ReferenceSet) -> None:
        """Keep photos that were read already, for as long as their files do not change.

        Args:
            references: Folder or file of the photos.
            photos: The photos that were read from it.
        """
        _make_room(self._photos)
        self._photos[photo_key(references)] = photos

    def _reference_latents(self, photos: ReferenceSet, height: int, width: int) -> Tensor:
        key = (photos.digest, height, width)
        if key not in self._latents:
            _make_room(self._latents)
            self._latents[key] = photos.latents(self.pipeline.vae, height, width)
        return self._latents[key]

    def _encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.cat([self._text_states(text) for text in texts])

    def _text_states(self, text: str) -> Tensor:
        """Return the states of a text, cached because every edit also needs the empty text's."""
        states = self._texts.get(text)
        if states is None:
            _make_room(self._texts)
            states = self._texts[text] = self.pipeline.encode_text([text])
        return states

    def _convert_scheduler(self) -> None:
        """Set the scheduler of ``settings.sampler`` with the noise schedule of the weights."""
        scheduler, wanted = self.pipeline.scheduler, self.settings.sampler
        if wanted == "ddim" and not isinstance(scheduler, DDIMScheduler):
            # Other schedulers' configs lack clip_sample, whose default would clip latents.
            scheduler = DDIMScheduler.from_config(scheduler.config, clip_sample=False)
        elif wanted == "euler_ancestral":
            scheduler = EulerAncestralDiscreteScheduler.from_config(scheduler.config)
        self.pipeline.scheduler = supported_scheduler(scheduler)


def _split_id(name: str) -> tuple[str, str]:
    """Split ``name@hash``; an existing folder is always a name."""
    match = re.fullmatch(r"(.+)@([0-9a-f]{8})", name)
    if match is None or Path(name).is_dir():
        return name, ""
    return match[1], match[2]


def _make_room(cache: dict[Any, Any]) -> None:
    while len(cache) >= _CACHED:
        cache.pop(next(iter(cache)))
