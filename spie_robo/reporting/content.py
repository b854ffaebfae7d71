"""Records of what the page shows; :mod:`spie_robo.reporting.page` turns them into HTML.

Measurements are kept for every step, images for a sample of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

StepVerdict = Literal["edited", "rejected", "failed", "unjudged", "raw"]
"""edited: kept; rejected: the guard refused it, the raw frame was used; failed: the editor failed;
unjudged: edited without a guard; raw: never edited."""


@final
@dataclass(frozen=True)
class Budget:
    """The limit of one measured deviation.

    Attributes:
        name: As in the verdicts, e.g. ``"depth_error"``.
        label: For people, e.g. ``"depth error"``.
        limit: The budget; None if the store does not say.
        at_most: True if a value must not exceed it.
        limit_words: The limit in words, e.g. ``"at least 60 %"``.
        unit: Follows a value; ``"%"`` shows a share of 1 as percent.
    """

    name: str
    label: str
    limit: float | None
    at_most: bool
    limit_words: str = ""
    unit: str = ""


@final
@dataclass(frozen=True)
class CameraTrack:
    """One camera in one episode.

    Attributes:
        name: Name of the camera.
        width: Width of its frames in pixels.
        height: Height of its frames in pixels.
        raw: ``data:`` address of the simulator's frame at each shown step.
        edited: The same of the frame that the policy saw.
        outlines: SVG path of the segmentation at each shown step; empty without one.
        verdicts: One a step of the episode.
        measurements: Per deviation one value a step; None where nothing was measured.
        photos: Which of the page's photos the edit of each shown step follows; None for none.
    """

    name: str
    width: int
    height: int
    raw: tuple[str, ...]
    edited: tuple[str, ...]
    outlines: tuple[str, ...]
    verdicts: tuple[StepVerdict, ...]
    measurements: Mapping[str, tuple[float | None, ...]]
    photos: tuple[int | None, ...] = ()


@final
@dataclass(frozen=True)
class EpisodeTrack:
    """One episode.

    Attributes:
        label: For the list of episodes.
        note: Length, seed and outcome.
        length: Steps.
        shown: The steps that have images, ascending.
        cameras: Its cameras.
    """

    label: str
    note: str
    length: int
    shown: tuple[int, ...]
    cameras: tuple[CameraTrack, ...]


@final
@dataclass(frozen=True)
class Tile:
    """One number at the top of the page."""

    label: str
    value: str
    detail: str = ""


@final
@dataclass(frozen=True)
class CameraRow:
    """Outcomes of the frames of one camera, over the whole store."""

    camera: str
    frames: int
    edited: int
    rejected: int
    failed: int


@final
@dataclass(frozen=True)
class MeasurementRow:
    """One deviation over the whole store, as text."""

    name: str
    meaning: str
    median: str
    worst: str
    limit: str


@final
@dataclass(frozen=True)
class Provenance:
    """One line about where the data comes from."""

    label: str
    value: str


@final
@dataclass(frozen=True)
class ReportContent:
    """Everything on the page.

    Attributes:
        title: Environment, or the store's name.
        instruction: The text that the editor followed; empty for raw frames.
        edited: Whether any frame was given to an editor.
        sampling_note: Says which episodes and steps are left out; empty if none are.
        tiles: Numbers at the top.
        camera_rows: Table of cameras.
        measurement_rows: Table of deviations.
        provenance: Where the data comes from.
        budgets: Limits of the deviations, in the order in which they are shown.
        episodes: The episodes that are shown.
        photos: ``data:`` addresses of the reference photos that the shown edits follow.
        photo_note: Where the photos come from, or why there are none.
    """

    title: str
    instruction: str
    edited: bool
    sampling_note: str
    tiles: tuple[Tile, ...]
    camera_rows: tuple[CameraRow, ...]
    measurement_rows: tuple[MeasurementRow, ...]
    provenance: tuple[Provenance, ...]
    budgets: tuple[Budget, ...]
    episodes: tuple[EpisodeTrack, ...]
    photos: tuple[str, ...] = ()
    photo_note: str = ""
