"""The report of a writer of a foreign format: the losses that its format makes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Written:
    """The arrays that a writer could not write as they were.

    Attributes:
        lossy: The reason, by key of an array whose values changed, e.g. "video, h264".
        dropped: The reason, by key of an array that is not in the output.
        notes: Anything else that a user should know.
    """

    lossy: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
