"""Which conversion an unfinished output belongs to: resuming another one would mix two looks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spie_robo import __version__
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.editing.description import Maker
from spie_robo.errors import ConfigError, ReferencePhotoError, StoreError
from spie_robo.types import References


@dataclass(frozen=True)
class ConvertOptions:
    """What to do to the frames of a store.

    Attributes:
        cameras: Cameras to edit; empty edits all.
        batch_size: Frames in one call of the editor. It does not change the result, so a
            conversion may be resumed with another.
        steps: Denoising steps that the editor was built with, recorded here; None if it chose.
        seed: Seed of the run; every episode derives its own from it.
        instruction: Text for the editor; None uses the editor's own.
        references: Photos of the look to give; None uses the editor's own.
        retries: Further seeds to try after the guard rejects an edit.
        zarr_format: Format of the output; None is that of the input.
    """

    cameras: tuple[str, ...] = ()
    batch_size: int = 8
    steps: int | None = None
    seed: int = 0
    instruction: str | None = None
    references: References | None = None
    retries: int = 1
    zarr_format: ZarrFormat | None = None

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name, least in (("batch_size", 1), ("seed", 0), ("retries", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name}: expected {least} or more, got {value}.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps: expected 1 or more, got {self.steps}.")
        if self.zarr_format not in (None, 2, 3):
            raise ConfigError(f"zarr_format: expected 2 or 3, got {self.zarr_format!r}.")


def identify(
    source_name: str,
    source_fingerprint: str,
    maker: Maker | None,
    options: ConvertOptions,
) -> dict[str, Any]:
    """Everything that the bytes of the output depend on, as plain JSON values.

    Args:
        source_name: Last part of the source's path.
        source_fingerprint: Of its content.
        maker: Editor and guard; None copies.
        options: What to do.

    Raises:
        ReferencePhotoError: If the reference photos cannot be read.
    """
    return {
        "source": source_name,
        "source_fingerprint": source_fingerprint,
        "editor": None if maker is None else maker.editor,
        "editor_description": None if maker is None else dict(maker.editor_description),
        "guard": None if maker is None else maker.guard,
        "guard_description": None if maker is None else dict(maker.guard_description),
        "cameras": sorted(options.cameras),
        "steps": options.steps,
        "seed": options.seed,
        "instruction": options.instruction,
        "references": references_digest(options.references),
        "retries": options.retries,
        "spie_robo": __version__,
    }


def require_same(out: Path, found: object, expected: Mapping[str, Any]) -> None:
    """Raise unless the store at ``out`` was begun by the very conversion that is asked for.

    Raises:
        StoreError: Naming each setting that differs.
    """
    way_out = "Choose another output path, or delete it."
    if not isinstance(found, Mapping):
        raise StoreError(f"{out} holds episodes that no conversion wrote. {way_out}")
    names = [name for name in expected if found.get(name) != expected[name]]
    if names:
        differences = "; ".join(
            f"{name}: {found.get(name)!r} there, {expected[name]!r} now" for name in names
        )
        raise StoreError(
            f"{out} was begun by another conversion ({differences}). Run that one again to resume "
            f"it. {way_out}"
        )


def references_digest(references: References | None) -> str | None:
    """SHA-256 of the reference photos: of their files, or of the images themselves.

    Raises:
        ReferencePhotoError: If a file cannot be read.
    """
    if references is None:
        return None
    digest = hashlib.sha256()
    if isinstance(references, (str, Path)):
        path = Path(references)
        try:
            files = sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]
            for file in files:
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
        except OSError as error:
            raise ReferencePhotoError(
                f"{path}: expected a readable folder of photos or a photo: {error.strerror}. Check "
                "the path."
            ) from error
    else:
        for image in references:
            digest.update(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
