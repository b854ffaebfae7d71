"""Records of what the page of a training run shows; :mod:`.run_page` turns them into HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from spie_robo.reporting.content import Provenance, Tile


@final
@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: For people.
        values: One a row of the history; None where there is none.
        dashed: A level to compare with, rather than something that was measured each epoch.
    """

    label: str
    values: tuple[float | None, ...]
    dashed: bool = False


@final
@dataclass(frozen=True)
class Chart:
    """Lines over epochs.

    Attributes:
        title: What is shown.
        note: How to read it.
        lines: At least one.
        needs: What the history must have for it.
        percent: Values are shares, shown in per cent.
    """

    title: str
    note: str
    lines: tuple[Line, ...]
    needs: str
    percent: bool = False


@final
@dataclass(frozen=True)
class EpochPicture:
    """Preview frames after an epoch, as a ``data:`` address."""

    epoch: int
    address: str


@final
@dataclass(frozen=True)
class RunContent:
    """Everything on the page.

    Attributes:
        title: The run's name.
        tiles: Numbers at the top.
        epochs: Epochs of the rows of the history; 0 is the base.
        notes: Says that the run is not finished, if so.
        charts: Scores and acceptance.
        pictures: Ascending; empty if none was found.
        picture_note: What the columns are, and what is left out.
        names: Columns of the table of all rows.
        rows: Its cells, as text.
        provenance: Where the run is, and what its card says.
    """

    title: str
    tiles: tuple[Tile, ...]
    epochs: tuple[int, ...]
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]
    pictures: tuple[EpochPicture, ...]
    picture_note: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    provenance: tuple[Provenance, ...]
