"""Summarise conversions into a foreign data set, or into objects in a bucket."""

from __future__ import annotations

from dataclasses import dataclass

from spie_robo.data.conversion.convert import ConvertSummary
from spie_robo.data.formats.export import ExportReport
from spie_robo.settings.locations import Location
from spie_robo.settings.wording import counted


@dataclass(frozen=True)
class ExportSummary:
    """The result of a conversion into a foreign format.

    Attributes:
        report: Report of the written data and its losses.
        edits: Result of the editing; None without an editor.
        notes: Parts of the source that no output has.
    """

    report: ExportReport
    edits: ConvertSummary | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the result in one line, with a line for each loss."""
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
    """The result of a conversion into object storage.

    Attributes:
        out: Address of the output.
        objects: Number of its objects.
        size: Size of its objects, bytes.
        made: Result of the conversion that was sent; None if an earlier run had made it.
    """

    out: Location
    objects: int
    size: int
    made: ConvertSummary | ExportSummary | None

    def __str__(self) -> str:
        """Return the result in one line, followed by the conversion's."""
        line = f"{self.out}: {self.objects} objects, {self.size / 1e6:.1f} MB sent and checked"
        return line if self.made is None else f"{line}\n  made as {self.made}"
