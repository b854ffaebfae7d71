"""What a conversion leaves behind, beside a store: a foreign data set, or objects in a bucket."""

from __future__ import annotations

from dataclasses import dataclass

from spie_robo.data.conversion.convert import ConvertSummary
from spie_robo.data.formats.export import ExportReport
from spie_robo.settings.locations import Location
from spie_robo.settings.wording import counted


@dataclass(frozen=True)
class ExportSummary:
    """What a conversion into a foreign format left behind.

    Attributes:
        report: What was written, and what was lost.
        edits: What was edited; None without an editor.
        notes: What the source had and no output has.
    """

    report: ExportReport
    edits: ConvertSummary | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A line for people, and one for each loss."""
        report = self.report
        size = f"{counted(report.episodes, 'episode')}, {counted(report.steps, 'step')}"
        line = f"{report.path} ({report.format}): {size}"
        if self.edits is not None:
            rate = self.edits.accepted / max(1, self.edits.frames)
            line += f", {counted(self.edits.frames, 'frame')}, {rate:.1%} edits accepted"
        lines = [line, *(f"  lossy: {loss}" for loss in report.losses)]
        lines += [f"  left out: {key}: {why}" for key, why in report.dropped.items()]
        notes = (*self.notes, *report.notes)
        return "\n".join([*lines, *(f"  note: {note.rstrip('.')}" for note in notes)])


@dataclass(frozen=True)
class UploadSummary:
    """What a conversion into object storage left behind.

    Attributes:
        out: The output.
        objects: Its objects.
        size: Bytes of them.
        made: What was sent; None if an earlier run had made it.
    """

    out: Location
    objects: int
    size: int
    made: ConvertSummary | ExportSummary | None

    def __str__(self) -> str:
        """A line for people, and what was made."""
        line = f"{self.out}: {self.objects} objects, {self.size / 1e6:.1f} MB sent and checked"
        return line if self.made is None else f"{line}\n  made as {self.made}"
