"""Compare editors on the same frames, with every metric of SPIE's table, in one function.

``frames + photos + editors -> edits -> measure -> EvaluationTable``
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from tqdm import tqdm

from spie_robo.editor.photo_check import near_duplicates
from spie_robo.editor.references import cover
from spie_robo.errors import ConfigError, FrameError, ReferencePhotoError
from spie_robo.evaluation.baselines import IdentityEditor
from spie_robo.evaluation.measure import (
    Judges,
    Values,
    feedback_values,
    image_values,
    photo_floors,
)
from spie_robo.evaluation.realism import KernelDistance, kernel_distance
from spie_robo.evaluation.table import (
    METRICS,
    RAW,
    EditorRow,
    EvaluationTable,
    Score,
    gap_closed,
    summarise,
)
from spie_robo.feedback.nearness import nearer
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.types import RGB, EditResult, Frame, ImageEditor
from spie_robo.vision.features import MINIMUM_SIZE

SOURCE_TEXT = "a computer rendering of a robot at a table"
"""Description of raw frames, from which directional similarity starts."""

_BLOCK = 8  # inputs between two updates of the progress bar


@final
@dataclass(frozen=True)
class EvaluationOptions:
    """Settings of a comparison of editors.

    Attributes:
        seed: Seed of the first frame; frame i is edited with ``seed + i`` by every editor.
        instruction: Text for the editors and for the judges that read text; None: each editor's
            own, and the first one's for the judges.
        source_text: Description of raw frames, for CLIP's directional similarity.
        batch_size: Frames that are edited, or scored, at once.
    """

    seed: int = 0
    instruction: str | None = None
    source_text: str = SOURCE_TEXT
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected 1 or more, got {self.batch_size}.")


@final
@dataclass(frozen=True, eq=False)
class _Edits:
    """The edits of one editor, and the seconds a frame; None if not timed."""

    name: str
    editor_id: str
    results: tuple[EditResult, ...]
    seconds: float | None

    @property
    def images(self) -> list[RGB]:
        return [result.rgb for result in self.results]


def evaluate_editors(
    frames: Sequence[Frame],
    photos: Sequence[RGB],
    editors: Mapping[str, ImageEditor],
    judges: Judges,
    *,
    held_out: Sequence[RGB] = (),
    frame_regions: Sequence[Mask | None] | None = None,
    photo_regions: Sequence[Mask | None] | None = None,
    options: EvaluationOptions | None = None,
    progress: bool = False,
) -> EvaluationTable:
    """Edit the same frames with every editor and measure the edits.

    Frame i follows photo i modulo their number and is scored against it. The first row is the raw
    frames, measured like edits.

    Args:
        frames: Simulator frames of at least 32 pixels a side, with depth if it is known.
        photos: The reference photos, uint8 (height, width, 3) each.
        editors: Editors by their names in the table.
        judges: Judges to measure with; see :func:`spie_robo.evaluation.judges.load_judges`.
        held_out: Other photos of the same lab, for KID and the floors.
        frame_regions: Mask a frame of the part that edits should change; None: all of it.
        photo_regions: Mask a photo of the part to look like; None: all of it.
        options: Seeds, texts and batches; None uses the defaults.
        progress: Show a progress bar.

    Returns:
        The table, with every edit.

    Raises:
        FrameError: If there are fewer than two frames, or one is too small.
        ReferencePhotoError: If there is no photo.
        ConfigError: If an editor is called ``raw``, or a mask or region is missing.
        EditorError: If an editor fails.
    """
    # Edit all frames with every editor.
    options, frames, photos = options or EvaluationOptions(), tuple(frames), tuple(photos)
    _check(frames, photos, editors)
    inputs, covered = _pair(frames, photos, frame_regions, photo_regions)
    edits = _edit_all(inputs, photos, editors, options, progress)
    # Measure the edits, and the held-out photos in their place.
    text = _text(edits, options) if judges.read_text else ""
    values = _measure(inputs, covered, edits, judges, (text, options.source_text), progress)
    height, width = _common_size(frames)
    cropped, others = ([cover(p, height, width) for p in ps] for ps in (photos, held_out))
    regions = photo_regions or [None] * len(photos)
    floors = photo_floors(photos, regions, others, judges) if others else {}
    distances, kid_floor = _kernel_distances(edits, cropped, others, options.seed)
    floors |= kid_floor
    return EvaluationTable(
        rows=_rows(edits, values, distances, floors),
        floors=floors,
        frames=frames,
        photos=photos,
        photo_of=tuple(i % len(photos) for i in range(len(frames))),
        seeds=_seeds(frames, options),
        text=text,
        notes=_notes(frames, cropped, others),
    )


def _check(
    frames: Sequence[Frame], photos: Sequence[RGB], editors: Mapping[str, ImageEditor]
) -> None:
    if not photos:
        raise ReferencePhotoError("Expected at least one reference photo, got none.")
    if len(frames) < 2:
        raise FrameError(f"Expected at least two frames to compare editors on, got {len(frames)}.")
    for index, frame in enumerate(frames):
        if min(frame.rgb.shape[:2]) < MINIMUM_SIZE:
            raise FrameError(
                f"Frame {index} of camera {frame.camera!r}: expected at least {MINIMUM_SIZE}x"
                f"{MINIMUM_SIZE} pixels, got {frame.rgb.shape[:2]}. Record larger images."
            )
    if RAW in editors:
        raise ConfigError(f"editors: {RAW!r} is the row of the raw frames, which is always there.")


def _pair(
    frames: Sequence[Frame],
    photos: Sequence[RGB],
    frame_regions: Sequence[Mask | None] | None,
    photo_regions: Sequence[Mask | None] | None,
) -> tuple[list[FeedbackInput], list[RGB]]:
    """Pair each frame with its photo, and resize that photo to the frame."""
    of_frames = list(frame_regions or [None] * len(frames))
    of_photos = list(photo_regions or [None] * len(photos))
    if len(of_frames) != len(frames) or len(of_photos) != len(photos):
        raise ConfigError(
            f"Expected one region a frame and a photo ({len(frames)}, {len(photos)}), got "
            f"{len(of_frames)} and {len(of_photos)}."
        )
    inputs, covered = [], []
    cache: dict[tuple[int, int, int], RGB] = {}
    for index, (frame, region) in enumerate(zip(frames, of_frames, strict=True)):
        photo = index % len(photos)
        inputs.append(FeedbackInput(frame, photos[photo], region, of_photos[photo]))
        key = (photo, frame.rgb.shape[0], frame.rgb.shape[1])
        if key not in cache:
            cache[key] = cover(photos[photo], key[1], key[2])
        covered.append(cache[key])
    return inputs, covered


def _edit_all(
    inputs: Sequence[FeedbackInput],
    photos: Sequence[RGB],
    editors: Mapping[str, ImageEditor],
    options: EvaluationOptions,
    progress: bool,
) -> list[_Edits]:
    frames = [item.frame for item in inputs]
    raw = IdentityEditor(RAW)
    made = [_Edits(RAW, RAW, tuple(raw.edit(frames)), None)]
    total = len(frames) * len(editors)
    with tqdm(total=total, desc="edit", unit="frame", disable=not progress) as bar:
        for name, editor in editors.items():
            bar.set_postfix_str(name)
            made.append(_edit(name, editor, frames, photos, options, bar))
    return made


def _edit(
    name: str,
    editor: ImageEditor,
    frames: Sequence[Frame],
    photos: Sequence[RGB],
    options: EvaluationOptions,
    bar: tqdm[Any],
) -> _Edits:
    """Edit all frames with one editor; a call has frames of one photo only."""
    seeds = _seeds(frames, options)
    results: dict[int, EditResult] = {}
    # Warm up first: loading, compiling and caching are not part of a frame's time.
    editor.edit(frames[:1], [photos[0]], options.instruction, seeds[:1])
    seconds = 0.0
    for number, photo in enumerate(photos):
        members = range(number, len(frames), len(photos))
        for start in range(0, len(members), options.batch_size):
            batch = members[start : start + options.batch_size]
            begun = time.perf_counter()
            edits = editor.edit(
                [frames[i] for i in batch], [photo], options.instruction, [seeds[i] for i in batch]
            )
            seconds += time.perf_counter() - begun
            results |= dict(zip(batch, edits, strict=True))
            bar.update(len(batch))
    ordered = tuple(results[i] for i in range(len(frames)))
    return _Edits(name, editor.id, ordered, seconds / len(frames))


def _seeds(frames: Sequence[Frame], options: EvaluationOptions) -> tuple[int, ...]:
    return tuple(options.seed + i for i in range(len(frames)))


def _text(edits: Sequence[_Edits], options: EvaluationOptions) -> str:
    """Return the text of the edits: the given instruction, or the first that an editor used."""
    if options.instruction is not None:
        return options.instruction
    return next((r.instruction for e in edits for r in e.results if r.instruction), "")


def _measure(
    inputs: Sequence[FeedbackInput],
    photos: Sequence[RGB],
    edits: Sequence[_Edits],
    judges: Judges,
    texts: tuple[str, str],
    progress: bool,
) -> list[dict[str, Values]]:
    """Return for each editor one value a frame and metric."""
    groups = list(zip(*(each.images for each in edits), strict=True))  # all edits of each frame
    blocks = []
    with tqdm(
        total=len(inputs) + len(edits), desc="measure", unit="part", disable=not progress
    ) as bar:
        for start in range(0, len(inputs), _BLOCK):
            part = slice(start, start + _BLOCK)
            blocks.append(feedback_values(inputs[part], groups[part], judges))
            bar.update(len(inputs[part]))
        values = []
        for number, each in enumerate(edits):
            bar.set_postfix_str(each.name)
            scores = {
                key: np.concatenate([block[number][key] for block in blocks])
                for key in blocks[0][number]
            }
            values.append(scores | image_values(inputs, photos, each.results, judges, *texts))
            bar.update()
    return values


def _kernel_distances(
    edits: Sequence[_Edits], photos: Sequence[RGB], held_out: Sequence[RGB], seed: int
) -> tuple[list[KernelDistance | None], dict[str, float]]:
    """Return each editor's KID to the held-out photos, else to the references, and its floor."""
    target = held_out or photos
    if len(target) < 2:
        return [None] * len(edits), {}
    distances: list[KernelDistance | None] = [
        kernel_distance(each.images, target, seed=seed) for each in edits
    ]
    if not held_out or len(photos) < 2:
        return distances, {}
    return distances, {"kid": kernel_distance(photos, held_out, seed=seed).mean}


def _rows(
    edits: Sequence[_Edits],
    values: Sequence[Mapping[str, Values]],
    distances: Sequence[KernelDistance | None],
    floors: Mapping[str, float],
) -> tuple[EditorRow, ...]:
    rows: list[EditorRow] = []
    for each, of_editor, distance in zip(edits, values, distances, strict=True):
        scores = {key: summarise(measured) for key, measured in of_editor.items()}
        if distance is not None:
            scores["kid"] = Score(distance.mean, distance.deviation, len(each.results))
        if each.seconds is not None:
            scores["seconds"] = Score(each.seconds, float("nan"), len(each.results))
        scores = {key: score for key, score in scores.items() if score.count}
        raw = rows[0].scores if rows else scores
        scores = {key: _with_gap(key, score, raw, floors) for key, score in scores.items()}
        rows.append(EditorRow(each.name, each.editor_id, scores, tuple(each.images)))
    return tuple(rows)


def _with_gap(
    key: str, score: Score, raw: Mapping[str, Score], floors: Mapping[str, float]
) -> Score:
    if key not in floors or key not in raw:
        return score
    better = next(metric.better for metric in METRICS if metric.key == key)
    assert better != "near 1"  # no metric of that kind has a floor
    share = gap_closed(raw[key].mean, score.mean, floors[key], better)
    return Score(
        score.mean, score.error, score.count, share, nearer(raw[key].mean, score.mean, better)
    )


def _notes(
    frames: Sequence[Frame], photos: Sequence[RGB], held_out: Sequence[RGB]
) -> tuple[str, ...]:
    notes = []
    if held_out:
        if len(held_out) > 1:
            notes.append(f"KID is measured to {len(held_out)} held-out photos.")
        copies = near_duplicates(held_out, photos)
        if copies:
            notes.append(
                f"Of {len(held_out)} held-out photos, {len(copies)} also are reference photos: the "
                "floors are too good. Take them out."
            )
    elif len(photos) > 1:
        notes.append(
            f"KID is measured to the {len(photos)} reference photos, which editors have seen; "
            "--held-out gives photos for KID and the floors."
        )
    if len(held_out or photos) < 2:
        kind = "held-out photos" if held_out else "photos"
        notes.append(f"KID needs two {kind} or more, and is left out.")
    if any(frame.geometry is None or frame.geometry.depth is None for frame in frames):
        notes.append("Frames without the simulator's depth are left out of that metric.")
    return tuple(notes)


def _common_size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Return the most frequent height and width."""
    sizes = Counter((frame.rgb.shape[0], frame.rgb.shape[1]) for frame in frames)
    return sizes.most_common(1)[0][0]
