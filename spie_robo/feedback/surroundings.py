"""Resolve region ``surroundings``: a lab's surfaces, by the names that simulators give them.

A lab is its table, walls and floor; robot and objects belong to the task. A judge that compares all
patches with a photo would make them look like the photo's wood too. By default, therefore, only the
surfaces in the simulator's segmentation should look like the photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spie_robo.feedback.config import FeedbackConfig
from spie_robo.guard.roles import is_surface
from spie_robo.types import Frame


def resolve_region(config: FeedbackConfig, frames: Sequence[Frame]) -> tuple[FeedbackConfig, str]:
    """Resolve ``surroundings`` once for all frames of a data set.

    Args:
        config: Settings of the scores.
        frames: All frames that will be scored.

    Returns:
        The settings, with region ``names`` and the surfaces that were found, or ``frame`` if the
        frames name none; and a note. Another region stays, and its note is empty.
    """
    if config.region != "surroundings":
        return config, ""
    names = surface_names(frames)
    if not names:
        return replace(config, region="frame"), (
            "the whole frame is to look like the photos, robot and objects too, since the frames "
            "name no surfaces (table, wall, floor, ...). Set feedback.region to change that."
        )
    chosen = replace(config, region="names", region_names=names)
    return chosen, f"{', '.join(names)} are to look like the photos, everything else to stay."


def surface_names(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Return the names of surfaces that occur in every frame's segmentation, sorted."""
    known = [
        set(frame.geometry.names.values())
        if frame.geometry is not None and frame.geometry.segmentation is not None
        else set()
        for frame in frames
    ]
    common = set.intersection(*known) if known else set()
    return tuple(sorted(name for name in common if is_surface(name)))
