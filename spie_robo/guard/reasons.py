"""Sentences for people: what was measured, where, and what would have been allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from spie_robo.guard.outlines import REFERENCE_WIDTH, Scene
from spie_robo.types import Deviation


@final
@dataclass(frozen=True)
class Finding:
    """One measured deviation and what it is about.

    Attributes:
        name: Name of the deviation.
        value: What was measured; NaN if nothing could be.
        place: Column and row in the frame, in its own pixels; None where there is no one place.
        about: Names of the objects that it is about; empty if they have none.
    """

    name: str
    value: float
    place: tuple[int, int] | None = None
    about: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        scene: Scene,
        name: str,
        value: float,
        place: Sequence[float],
        silhouettes: Sequence[int],
    ) -> Finding:
        """Put a measurement into the frame's own pixels and names.

        Args:
            scene: What was measured on.
            name: Name of the deviation.
            value: Value of the deviation.
            place: Column and row, in pixels of the scene's grid.
            silhouettes: Indices of silhouettes; negative ones are none.
        """
        about = tuple(scene.silhouettes[i].name or "an object" for i in silhouettes if i >= 0)
        column, row = (int((each + 0.5) / scene.scale) for each in place)
        return cls(name, value, (column, row), about)


def reason_of(finding: Finding, deviation: Deviation, width: int) -> str:
    """Say what is wrong, and where: ``cube moved 3.1 px at (37, 87), at most 1 px is allowed``.

    Args:
        finding: What was found.
        deviation: The same, with its limit.
        width: Width of the frame, in pixels.
    """
    pixels = width / REFERENCE_WIDTH
    value, limit, thing = finding.value, deviation.limit, " and ".join(finding.about)
    at = "" if finding.place is None else f" at ({finding.place[0]}, {finding.place[1]})"
    if finding.name == "outline":
        return (
            f"{value:.0%} of the outline of {thing}{at} is drawn in place, at least {limit:.0%} "
            "is needed"
        )
    if finding.name.endswith("_px"):
        what = {
            "moved_px": f"{thing} moved",
            "resized_px": f"{thing} grew or shrank by",
            "warped_px": "rims moved",
        }[finding.name]
        allowed = f"at most {limit * pixels:.2g} px is allowed"
        return f"{what} {value * pixels:.1f} px{at}, {allowed}"
    if finding.name == "swapped":
        return f"{thing}{at} have exchanged their colours"
    if finding.name == "chroma_drift":
        return f"protected colours drift by {value:.3g}, at most {limit:.3g} is allowed"
    beside = "the surface" if finding.name == "inserted" else "the picture"
    return (
        f"something stands out{at} that the raw frame does not have, with {value:.1f} times the "
        f"structure of {beside}, at most {limit:.2g} is allowed"
    )
