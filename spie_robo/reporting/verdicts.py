"""Read a store's verdicts: what became of each frame, and by how much it strayed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.fields import realism_key
from spie_robo.guard.budget import AT_MOST, DEVIATION_NAMES
from spie_robo.reporting.content import Budget, MeasurementRow, StepVerdict


def budgets(provenance: Mapping[str, Any]) -> tuple[Budget, ...]:
    """The limits that the edits were held to, as far as the store says."""
    recorded = provenance.get("guard_limits")
    limits = recorded if isinstance(recorded, Mapping) else {}
    return tuple(
        Budget(name, label(name), _finite(limits.get(name)), AT_MOST[name])
        for name in DEVIATION_NAMES
    )


def label(name: str) -> str:
    """A deviation's name for people."""
    return {
        "depth_error": "Depth error",
        "mask_iou": "Mask overlap",
        "boundary_f": "Boundary score",
        "displacement_px": "Displacement, px",
        "chroma_drift": "Colour drift",
    }.get(name, name.replace("_", " ").capitalize())


def read_measurements(
    source: EpisodeSource, episode: int, camera: str
) -> dict[str, NDArray[np.float64]]:
    """Each deviation of a camera that the store has, float64, (steps,), NaN where not measured."""
    keys = {
        name: realism_key(camera, name)
        for name in DEVIATION_NAMES
        if realism_key(camera, name) in source.keys
    }
    rows = source.read_rows(episode, 0, source.episode_length(episode), tuple(keys.values()))
    return {name: rows[key].astype(np.float64) for name, key in keys.items()}


def read_verdicts(
    source: EpisodeSource,
    episode: int,
    camera: str,
    measurements: Mapping[str, NDArray[np.float64]],
) -> tuple[StepVerdict, ...]:
    """What became of each frame of a camera in an episode."""
    length = source.episode_length(episode)
    key = realism_key(camera, "edited")
    if key not in source.keys:
        never: StepVerdict = "raw"
        return (never,) * length
    edited = source.read_rows(episode, 0, length, (key,))[key].astype(bool)
    measured = np.zeros(length, bool)
    for values in measurements.values():
        measured |= np.isfinite(values)
    return tuple(_verdict(e, m) for e, m in zip(edited, measured, strict=True))


def _verdict(edited: bool, measured: bool) -> StepVerdict:
    if edited:
        return "edited" if measured else "unjudged"
    return "rejected" if measured else "failed"


def plain_value(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Numbers as JSON has them: four significant digits, None for NaN."""
    return tuple(float(f"{value:.4g}") if math.isfinite(value) else None for value in values)


def measurement_rows(
    limits: Sequence[Budget], pooled: Mapping[str, NDArray[np.float64]]
) -> tuple[MeasurementRow, ...]:
    """The table of deviations.

    Args:
        limits: Their budgets.
        pooled: Per deviation the values of all frames, NaN where not measured.
    """
    rows = []
    for budget in limits:
        values = pooled.get(budget.name, np.empty(0))
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        worst = values.max() if budget.at_most else values.min()
        sign = "at most" if budget.at_most else "at least"
        limit = "not recorded" if budget.limit is None else f"{sign} {budget.limit:.3g}"
        median = float(np.median(values))
        rows.append(MeasurementRow(budget.label, f"{median:.3g}", f"{worst:.3g}", limit))
    return tuple(rows)


def _finite(value: Any) -> float | None:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None
