"""Region ``surroundings``: the surfaces of a lab, by the names that simulators give them.

A lab is its table, its walls and its floor. Robot and objects are the task's: a judge that compares
all patches with a photo wants them to look like the photo's wood too. So what should look like the
photos is, by default, what the simulator's segmentation calls a surface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from spie_robo.feedback.config import FeedbackConfig
from spie_robo.types import Frame

SURFACES = frozenset(
    "background bench benchtop ceiling counter countertop desk desktop floor ground plane table "
    "tabletop wall walls workbench".split()
)
"""One of these words is in the name of a surface."""

QUALIFIERS = frozenset(
    "back bottom collision front geom left link main metal right side surface top visual wooden "
    "work workspace world".split()
)
"""Words that may stand beside it, as numbers may: ``table_top``, ``wall-left 2``. With any other
word the name is an object's (``table lamp``)."""


def resolve_region(config: FeedbackConfig, frames: Sequence[Frame]) -> tuple[FeedbackConfig, str]:
    """Decide for a data set what ``surroundings`` means: once for all its frames, and said.

    Args:
        config: How edits are scored.
        frames: All frames that will be.

    Returns:
        The settings, with region ``names`` and the surfaces that were found, or ``frame`` if the
        frames name none; and a line for people. Another region stays, and its line is empty.
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
    """Names of surfaces that every frame's segmentation knows, sorted."""
    known = [
        set(frame.geometry.names.values())
        if frame.geometry is not None and frame.geometry.segmentation is not None
        else set()
        for frame in frames
    ]
    common = set.intersection(*known) if known else set()
    return tuple(sorted(name for name in common if is_surface(name)))


def is_surface(name: str) -> bool:
    """Whether an object is, by its name, part of the lab rather than of the task."""
    words = set(re.split(r"[\s_\-./]+", name.strip().lower())) - {""}
    rest = {word for word in words - SURFACES if not word.isdecimal()}
    return bool(words & SURFACES) and rest <= QUALIFIERS
