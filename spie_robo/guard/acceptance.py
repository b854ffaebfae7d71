"""Watches verdicts over a run, and says so when most edits are rejected.

A rejected edit is replaced by the raw frame: a run of which most is raw teaches a policy nothing of
the new look, and nothing fails. So whoever edits many frames keeps an :class:`AcceptanceMonitor`.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, final

from spie_robo.types import GuardedEdit, GuardVerdict

ADVICE: Final = {
    "outline": "the edits leave objects without visible outlines: try references or an instruction "
    "whose table and objects differ more, or name the objects in protect=",
    "moved_px": "the editor moves objects: try an editor that keeps to its frames, or fewer steps",
    "resized_px": "the editor changes sizes: try one that keeps to its frames, or fewer steps",
    "warped_px": "the editor bends the picture: try frames of the size that the editor works at",
    "inserted": "the editor draws things onto surfaces: try references without clutter",
    "added": "the editor draws things that are not there: try references without clutter",
    "swapped": "the editor exchanges the colours of objects: name them in protect=",
    "chroma_drift": "the editor changes the colours of protected objects: try other references",
}
"""Advice for when a deviation rejects most edits."""

_OTHERWISE: Final = "look at some rejected edits, and try other references or another editor"


@final
class AcceptanceMonitor:
    """Counts what became of edits, and warns once if most of the latest were rejected.

    Args:
        window: How many of the latest edits are looked at.

    Example:
        >>> monitor = AcceptanceMonitor()
        >>> monitor.summary
        ''
    """

    def __init__(self, window: int = 100) -> None:
        """Start with nothing counted."""
        self._window = window
        self._latest: deque[GuardVerdict] = deque(maxlen=window)
        self._judged = 0
        self._reasons: Counter[str] = Counter()
        self._warned = False

    def count(self, edits: Iterable[GuardedEdit]) -> None:
        """Count edits.

        Args:
            edits: What frames became, in order; those that no guard judged do not count.
        """
        for edit in edits:
            if edit.verdict is not None:
                self._judged += 1
                self._latest.append(edit.verdict)
                self._reasons.update(_broken(edit.verdict))

    def watch(self, edits: Iterable[GuardedEdit]) -> None:
        """Count edits, and warn the first time that more than half of a window were rejected.

        Args:
            edits: As for :meth:`count`.
        """
        self.count(edits)
        latest = list(self._latest)
        rejected = [verdict for verdict in latest if not verdict.accepted]
        if self._warned or 2 * len(rejected) <= self._window:
            return
        self._warned = True
        reasons = Counter(name for verdict in rejected for name in _broken(verdict))
        warnings.warn(
            f"The guard rejected {len(rejected)} of the last {len(latest)} edits; those frames "
            f"stay raw. {_explained(reasons)} The last one: {rejected[-1].reason}",
            RuntimeWarning,
            stacklevel=3,
        )

    @property
    def judged(self) -> int:
        """Number of edits that a guard judged."""
        return self._judged

    @property
    def rejected(self) -> int:
        """Number of them that were rejected."""
        return self._reasons.total() if self._judged else 0

    @property
    def concern(self) -> str:
        """:attr:`summary` where more than half of the edits were rejected, else empty."""
        return self.summary if 2 * self.rejected > self._judged else ""

    @property
    def summary(self) -> str:
        """One line on a whole run; empty where nothing was judged."""
        if not self._judged:
            return ""
        line = f"guard: {self._judged - self.rejected} of {self._judged} edits accepted"
        if not self.rejected:
            return f"{line}."
        if 2 * self.rejected <= self._judged:
            name, count = self._reasons.most_common(1)[0]
            return f"{line}; {count} rejected for {name}."
        return f"{line}. {_explained(self._reasons)}"


def _broken(verdict: GuardVerdict) -> tuple[str, ...]:
    """The deviation that a rejection is put down to: the first that is over its limit."""
    broken = (deviation.name for deviation in verdict.deviations if deviation.exceeded)
    return () if verdict.accepted else (next(broken, "another reason"),)


def _explained(reasons: Counter[str]) -> str:
    name, count = reasons.most_common(1)[0]
    return f"{count} for {name}: {ADVICE.get(name, _OTHERWISE)}."
