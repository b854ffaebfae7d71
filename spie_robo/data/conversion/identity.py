"""Check that an unfinished output belongs to the same conversion, so that looks do not mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spie_robo import __version__
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.editing.description import EditorDescription
from spie_robo.errors import ConfigError, StoreError

_UNEDITED = EditorDescription(editor="", guard=None)


@dataclass(frozen=True)
class ConversionConfig:
    """Settings of a conversion: the frames to edit and their batches.

    Attributes:
        cameras: Cameras to edit; empty edits all.
        batch_size: Frames in one call of the editor. It does not change the result: a conversion
            may be resumed with another value.
        seed: Seed of the run; every episode derives its own from it.
        zarr_format: Format of the output; None keeps that of the input.
        variants: Number of looks of each episode; each look is an episode that records its origin.
            None edits every episode once and records no origin.
        keep_raw: Whether to add each episode once more with its raw frames.
    """

    cameras: tuple[str, ...] = ()
    batch_size: int = 8
    seed: int = 0
    zarr_format: ZarrFormat | None = None
    variants: int | None = None
    keep_raw: bool = False

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name, least in (("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name}: expected {least} or more, got {value}.")
        if self.variants is not None and self.variants < 1:
            raise ConfigError(f"variants: expected 1 or more, got {self.variants}.")
        if self.keep_raw and self.variants is None:
            raise ConfigError("keep_raw: expected variants with it, got none.")
        if self.zarr_format not in (None, 2, 3):
            raise ConfigError(f"zarr_format: expected 2 or 3, got {self.zarr_format!r}.")


def identify(
    source_name: str,
    source_fingerprint: str,
    description: EditorDescription | None,
    config: ConversionConfig,
) -> dict[str, Any]:
    """Return all settings that the bytes of the output depend on, as plain JSON values.

    Args:
        source_name: Last part of the source's path.
        source_fingerprint: Hash of the source's content.
        description: Description of editor and guard; None copies the frames.
        config: Settings of the conversion.
    """
    copied, used = description is None, description or _UNEDITED
    looks: dict[str, Any] = {}
    if config.variants is not None:
        looks = {"variants": config.variants, "keep_raw": config.keep_raw}
    return {
        **looks,
        "source": source_name,
        "source_fingerprint": source_fingerprint,
        "editor": None if copied else used.editor,
        "editor_description": None if copied else dict(used.editor_description),
        "guard": used.guard,
        "guard_description": None if copied else dict(used.guard_description),
        "cameras": sorted(config.cameras),
        "steps": used.steps,
        "seed": config.seed,
        "instruction": used.instruction,
        "references": used.references,
        "retries": used.retries,
        "spie_robo": __version__,
    }


def require_same(out: Path, found: object, expected: Mapping[str, Any]) -> None:
    """Refuse the store at ``out`` if another conversion began it.

    Raises:
        StoreError: If a setting differs, with the name of each that does.
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
