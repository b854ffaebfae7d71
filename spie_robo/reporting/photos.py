"""The reference photos that a store's edits follow, as far as this machine has them.

A store names its photos and does not hold them: they stay where they were taken. Photos that were
given are read from their folder again, those that travel with an editor are decoded from its
latents. A look from the report's reader decides whether an edit looks like the lab.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.errors import SpieRoboError
from spie_robo.types import RGB

LONGEST_SIDE = 256
"""Size of a photo on the page, in pixels."""


@final
@dataclass(frozen=True, eq=False)
class ReferencePhotos:
    """The photos that edits choose from.

    Attributes:
        images: uint8 (height, width, 3) each, in the order in which a seed chooses.
        note: Where they come from, or why there are none.
    """

    images: tuple[RGB, ...]
    note: str

    def of_seed(self, seed: int) -> int | None:
        """Return the index of the photo that the edit with a seed follows; None without photos."""
        if not self.images:
            return None
        from spie_robo.editor.references import choose_reference

        return choose_reference(len(self.images), seed)


def reference_photos(metadata: StoreMetadata) -> ReferencePhotos:
    """Find the photos of a store's edits.

    Args:
        metadata: Metadata of the store, with its editor and the folder of photos that was given.
    """
    given = metadata.provenance.get("photos")
    if isinstance(given, Mapping):
        return _given(given)
    if not metadata.editor_id:
        return ReferencePhotos((), "")
    try:
        return _own(re.sub(r"@[0-9a-f]{8}$", "", metadata.editor_id))
    except (SpieRoboError, OSError) as error:
        return ReferencePhotos((), f"The editor's photos cannot be shown: {error}")


def _given(given: Mapping[str, Any]) -> ReferencePhotos:
    """Return the photos of a folder, if it still holds the ones that were used."""
    from spie_robo.editing.description import references_digest
    from spie_robo.editor.photo_check import load_references

    folder = str(given.get("folder", ""))
    try:
        if references_digest(folder) != given.get("sha256"):
            return ReferencePhotos((), f"The photos in {folder} are others now than were used.")
        images = tuple(_shrunk(image) for image in load_references(folder).images)
    except SpieRoboError as error:
        return ReferencePhotos((), f"The photos are not on this machine: {error}")
    return ReferencePhotos(images, f"Photos of {folder}.")


def _own(name: str) -> ReferencePhotos:
    """Return the photos stored in an editor of this machine, decoded from their latents."""
    from spie_robo.editor.presets import local_references

    found = local_references(name)
    if found is None:
        return ReferencePhotos((), f"The editor {name} brings no photos, or is not here.")
    return ReferencePhotos(
        tuple(_shrunk(image) for image in found),
        f"Photos that came with the editor {Path(name).name}, decoded from their latents.",
    )


def _shrunk(image: RGB) -> RGB:
    import cv2
    import numpy as np

    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
