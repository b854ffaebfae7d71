"""Keep the colour of objects that matter to the task: a red cube must stay red in any light.

Inside the protected silhouettes the edit keeps its lightness (shading, shadows) and gets the chroma
of the raw frame, in CIE Lab; the seam is feathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.types import RGB, Frame

_FEATHER = 1 / 128  # standard deviation of the seam, as a share of the shorter side


def protected_mask(frame: Frame, protect: Sequence[int | str]) -> NDArray[np.bool_]:
    """Return the pixels of protected objects.

    Args:
        frame: Frame whose geometry has a segmentation.
        protect: Instance ids, or names of ``geometry.names``. An object that is out of view has no
            pixels, which is no error.

    Returns:
        bool (height, width).

    Raises:
        FrameError: If there is no segmentation, or no object has that name.
    """
    geometry = frame.geometry
    if geometry is None or geometry.segmentation is None:
        raise FrameError(
            f"protect={list(protect)}: the frame of camera {frame.camera!r} has no segmentation. "
            "Pass the simulator's geometry with the frame, or leave protect out."
        )
    ids: list[int] = []
    for entry in protect:
        if isinstance(entry, str):
            named = [key for key, name in geometry.names.items() if name == entry]
            if not named:
                known = ", ".join(sorted(set(geometry.names.values()))) or "none"
                raise FrameError(
                    f"protect: no object is called {entry!r} in camera {frame.camera!r}. "
                    f"Its objects: {known}."
                )
            ids.extend(named)
        else:
            ids.append(entry)
    return np.isin(geometry.segmentation, ids)


def hold_chroma(edit: RGB, raw: RGB, mask: NDArray[np.bool_]) -> RGB:
    """Give masked pixels of an edit the chroma of the raw frame.

    Args:
        edit: uint8 (H, W, 3).
        raw: uint8 (H, W, 3).
        mask: bool (H, W).

    Returns:
        uint8 (H, W, 3); pixels far from the mask equal those of ``edit`` exactly.
    """
    if not mask.any():
        return edit
    sigma = max(0.5, _FEATHER * min(mask.shape))
    feathered = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    alpha = np.where(mask, np.maximum(feathered, 0.5), feathered)[..., None]
    edit_lab, raw_lab = _to_lab(edit), _to_lab(raw)
    edit_lab[..., 1:] = alpha * raw_lab[..., 1:] + (1 - alpha) * edit_lab[..., 1:]
    rgb = cv2.cvtColor(edit_lab, cv2.COLOR_LAB2RGB)
    held = (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8)
    return np.where(alpha > 1e-3, held, edit)


def _to_lab(image: RGB) -> NDArray[np.float32]:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab, dtype=np.float32)
