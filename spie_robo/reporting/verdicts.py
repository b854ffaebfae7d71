"""Read a store's verdicts: the outcome of each frame, and its measured deviations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.store.fields import cameras_of, realism_key
from spie_robo.reporting.content import Budget, MeasurementRow, StepVerdict
from spie_robo.reporting.measures import in_order, known_measure

_OUTCOMES = {"accepted", "edited", "attempts", "seed"}
"""Fields of a verdict that are no measures."""


def budgets(source: EpisodeSource) -> tuple[Budget, ...]:
    """Return the limits that the edits were held to, as far as the store has them.

    Args:
        source: Episodes; their keys and named limits say what was measured.
    """
    recorded = source.metadata.provenance.get("guard_limits")
    limits = recorded if isinstance(recorded, Mapping) else {}
    names = {str(name) for name in limits}
    for camera in cameras_of(source.keys):
        names |= measured_names(source, camera)
    return tuple(_budget(name, _finite(limits.get(name))) for name in in_order(names))


def measured_names(source: EpisodeSource, camera: str) -> set[str]:
    """Return the names of a camera's measures for which a store has a column."""
    others = [c for c in cameras_of(source.keys) if c.startswith(f"{camera}_")]
    prefix = realism_key(camera, "")
    return {
        key.removeprefix(prefix)
        for key in source.keys
        if key.startswith(prefix)
        and key.removeprefix(prefix) not in _OUTCOMES
        # A field of the camera front_top is none of the camera front.
        and not any(key.startswith(realism_key(other, "")) for other in others)
    }


def _budget(name: str, limit: float | None) -> Budget:
    words = known_measure(name)
    return Budget(name, words.label, limit, words.at_most, words.limit(limit), words.unit)


def read_measurements(
    source: EpisodeSource, episode: int, camera: str
) -> dict[str, NDArray[np.float64]]:
    """Read each deviation of a camera, float64, (steps,), NaN where not measured."""
    keys = {name: realism_key(camera, name) for name in in_order(measured_names(source, camera))}
    rows = source.read_rows(episode, 0, source.episode_length(episode), tuple(keys.values()))
    return {name: rows[key].astype(np.float64) for name, key in keys.items()}


def read_verdicts(
    source: EpisodeSource,
    episode: int,
    camera: str,
    measurements: Mapping[str, NDArray[np.float64]],
) -> tuple[StepVerdict, ...]:
    """Read the outcome of each frame of a camera in an episode."""
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
    """Return numbers for JSON: four significant digits, None for NaN."""
    return tuple(float(f"{value:.4g}") if math.isfinite(value) else None for value in values)


def measurement_rows(
    limits: Sequence[Budget], pooled: Mapping[str, NDArray[np.float64]]
) -> tuple[MeasurementRow, ...]:
    """Return the table of deviations.

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
        words = known_measure(budget.name)
        median, furthest = words.number(float(np.median(values))), words.number(float(worst))
        rows.append(
            MeasurementRow(budget.label, words.meaning, median, furthest, budget.limit_words)
        )
    return tuple(rows)


def _finite(value: Any) -> float | None:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None
