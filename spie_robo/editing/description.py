"""Describe an editor, a guard and their use in the plain values that a store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spie_robo.errors import ReferencePhotoError
from spie_robo.types import Guard, ImageEditor, References


@dataclass(frozen=True)
class EditorDescription:
    """A guarded editor in plain JSON values: equal descriptions give equal edits.

    An editor or a guard whose ``id`` does not say everything has a property ``description``, a
    mapping; :class:`spie_robo.editor.Editor` and :class:`spie_robo.guard.GeometryGuard` have one.

    Attributes:
        editor: Id of the editor.
        guard: Id of the guard; None if there is none.
        own_instruction: The editor's own text; empty if it has none.
        editor_description: The editor's settings, references and protected objects.
        guard_description: The guard's limits and protected objects.
        instruction: The text that the user gave; None if the editor uses its own.
        references: SHA-256 of the photos that the user gave; None if the editor uses its own.
        retries: Further seeds to try after a rejection.
        steps: Denoising steps that the user asked for; None if the editor chooses.
        photos: Folder or file of the photos, if they came from one.
    """

    editor: str
    guard: str | None
    own_instruction: str = ""
    editor_description: Mapping[str, Any] = field(default_factory=dict)
    guard_description: Mapping[str, Any] = field(default_factory=dict)
    instruction: str | None = None
    references: str | None = None
    retries: int = 1
    steps: int | None = None
    photos: str | None = None

    @staticmethod
    def of(editor: ImageEditor, guard: Guard | None) -> EditorDescription:
        """Read the description of an editor and its guard."""
        name = None if guard is None else str(getattr(guard, "id", type(guard).__name__))
        return EditorDescription(
            editor.id,
            name,
            str(getattr(editor, "instruction", None) or ""),
            _plain(getattr(editor, "description", {})),
            _plain(getattr(guard, "description", {})),
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Entries of a store's provenance beside editor and instruction, without unset ones."""
        settings = self.editor_description.get("settings", {})
        found = {
            "denoising_steps": settings.get("steps"),
            "protected": self.editor_description.get("protect"),
            "guard": self.guard,
            "guard_limits": self.guard_description.get("limits"),
            "photos": self.photos and {"folder": self.photos, "sha256": self.references},
        }
        return {key: value for key, value in found.items() if value not in (None, [])}


_PIECE = 2**20  # bytes

PROVENANCE_KEYS = ("denoising_steps", "protected", "guard", "guard_limits", "photos")
"""Keys of :attr:`EditorDescription.provenance`; they are removed when the edits are."""


def references_digest(references: References | None) -> str | None:
    """Hash the reference photos that are used: their files, or the images themselves.

    Returns:
        SHA-256 in hexadecimal digits; None without photos.

    Raises:
        ReferencePhotoError: If a file cannot be read.
    """
    if references is None:
        return None
    digest = hashlib.sha256()
    if isinstance(references, (str, Path)):
        from spie_robo.editor.photo_files import used_photos

        path = Path(references)
        try:
            for file in used_photos(path):
                digest.update(file.name.encode() + b"\0")
                with file.open("rb") as stream:
                    while piece := stream.read(_PIECE):
                        digest.update(piece)
        except OSError as error:
            raise ReferencePhotoError(
                f"{path}: expected a readable folder of photos or a photo: {error.strerror}. Check "
                "the path."
            ) from error
    else:
        for image in references:
            digest.update(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _plain(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description with lists in place of tuples, as JSON returns it."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(description)))
    return plain
