"""Measure proxy fidelity: how well success in a simulator predicts success in reality.

``success rates of the same policies, real and per simulator -> ProxyFidelity``. Pearson's r
measures whether the rates lie on a line, MMRV how much real success differs where the ranking is
wrong. Both have bootstrap intervals, and all simulators are compared on the same resamples.

Source: Li et al., "Evaluating Real-World Robot Manipulation Policies in Simulation" (SIMPLER),
arXiv 2405.05941, section III-B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spie_robo.errors import ConfigError

Rates: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

FEWEST_POLICIES = 3
"""Fewest policies to compare: two points always lie on a line."""
LEAST_DEFINED = 0.5
"""Share of the resamples in which r must be defined for an interval."""
_PAIRS_AT_ONCE = 2_000_000


@final
@dataclass(frozen=True, eq=False)
class SuccessRates:
    """The success rates of a set of policies, in reality or in one simulator.

    Attributes:
        name: Name of the column.
        rates: float64 (policies,), each in 0..1.
        episodes: int64 (policies,), number of episodes of each rate; None if unknown, and the
            rates are then taken as exact.
    """

    name: str
    rates: Rates
    episodes: NDArray[np.int64] | None = None

    @property
    def constant(self) -> bool:
        """True if all policies have the same rate."""
        return bool(self.rates.min() == self.rates.max())


@final
@dataclass(frozen=True)
class SimulatorFidelity:
    """The fidelity of one simulator.

    Attributes:
        name: Column of the simulator.
        policies: Number of policies compared.
        pearson: r, -1..1, higher is better; None if undefined, because all rates are equal.
        pearson_interval: Interval of r by percentile bootstrap; None if r is undefined, there or in
            more than half of the resamples.
        mmrv: Mean maximum rank violation, 0..1, in units of real success, lower is better.
        mmrv_interval: Interval of MMRV by percentile bootstrap.
        undefined: Number of resamples in which r is undefined; its interval leaves them out.
    """

    name: str
    policies: int
    pearson: float | None
    pearson_interval: Interval | None
    mmrv: float
    mmrv_interval: Interval
    undefined: int


@final
@dataclass(frozen=True)
class Comparison:
    """A simulator against the first one, on the same resamples; positive means better.

    Attributes:
        name: Name of the simulator.
        baseline: Name of the first simulator.
        pearson_gain: r minus the baseline's; None if either is undefined.
        pearson_interval: Interval of the gain by paired bootstrap; None as in SimulatorFidelity.
        mmrv_gain: The baseline's MMRV minus this one's.
        mmrv_interval: Interval of the gain by paired bootstrap.
    """

    name: str
    baseline: str
    pearson_gain: float | None
    pearson_interval: Interval | None
    mmrv_gain: float
    mmrv_interval: Interval


@final
@dataclass(frozen=True)
class ProxyFidelity:
    """The result: the fidelity of each simulator, and comparisons with the first one.

    Attributes:
        simulators: Fidelities in the given order.
        comparisons: One comparison for each simulator but the first.
        resampled_episodes: Names of the columns whose episodes were resampled too.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        confidence: Confidence of the intervals, e.g. 0.95.
    """

    simulators: tuple[SimulatorFidelity, ...]
    comparisons: tuple[Comparison, ...]
    resampled_episodes: tuple[str, ...]
    seed: int
    resamples: int
    confidence: float


def pearson(*, real: ArrayLike, sim: ArrayLike) -> float:
    """Return Pearson's correlation coefficient r of success rates.

    Args:
        real: (policies,) success in reality.
        sim: (policies,) success of the same policies in the simulator.

    Returns:
        A number in -1..1; NaN if one of the two is constant.

    Raises:
        ValueError: If the two differ in shape, or are not one-dimensional.
    """
    return float(_pearson(*_paired(real, sim)))


def mean_maximum_rank_violation(*, real: ArrayLike, sim: ArrayLike) -> float:
    """Compute MMRV: by how much real success differs where the simulator ranks wrongly.

    ``violation(i, j) = |real_i - real_j| * 1[(sim_i < sim_j) != (real_i < real_j)]``,
    ``MMRV = mean_i max_j violation(i, j)``.

    It is not symmetric: the margins are those of ``real``, so the arguments have names. A tie in
    reality is never a violation, whatever the simulator says. Two policies that differ in reality
    and tie in the simulator are one, charged to the worse policy. (SIMPLER's code compares with
    ``>`` and so charges the better one; its published tables have no such tie.)

    Args:
        real: (policies,) success in reality, 0..1.
        sim: (policies,) success of the same policies in the simulator; only its order counts.

    Returns:
        A number in 0..1, 0 for a perfect ranking.

    Raises:
        ValueError: If the two differ in shape, or are not one-dimensional.
    """
    return float(_mmrv(*_paired(real, sim)))


def proxy_fidelity(
    real: SuccessRates,
    simulators: Sequence[SuccessRates],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> ProxyFidelity:
    """Measure each simulator, and compare the others with the first.

    A resample draws as many policies as there are, with replacement, the same for all columns.
    If a column has episodes, each policy's successes are also drawn anew, from a binomial
    distribution of its rate; reality is drawn once for all simulators.

    Args:
        real: Success in reality.
        simulators: Success of the same policies in each simulator.
        seed: Seed of the bootstrap; the same seed gives the same intervals.
        resamples: Number of bootstrap resamples.
        confidence: Confidence of the percentile intervals.

    Raises:
        ConfigError: If there are fewer than three policies, all are equal in reality, or a column
            has another length.
    """
    _check(real, simulators)
    # Draw all resamples: the same policies for every column.
    generator = np.random.default_rng(seed)
    count = len(real.rates)
    chosen = generator.integers(0, count, (resamples, count))
    reality = _redraw(real, chosen, generator)
    r: list[Rates] = []
    violations: list[Rates] = []
    for simulator in simulators:
        drawn = _redraw(simulator, chosen, generator)
        r.append(_pearson(reality, drawn))
        violations.append(_mmrv_in_parts(reality, drawn))
    # Measure each simulator, then compare it with the first.
    measured = tuple(
        _measure(real, simulator, r[i], violations[i], confidence)
        for i, simulator in enumerate(simulators)
    )
    comparisons = tuple(
        _compare(measured[0], measured[i], r[i] - r[0], violations[0] - violations[i], confidence)
        for i in range(1, len(measured))
    )
    columns = (real, *simulators)
    with_episodes = tuple(column.name for column in columns if column.episodes is not None)
    return ProxyFidelity(measured, comparisons, with_episodes, seed, resamples, confidence)


def require_different(real: SuccessRates, where: str) -> None:
    """Refuse policies that are all equal in reality; ``where`` begins the message.

    Raises:
        ConfigError: If they are equal.
    """
    if real.constant:
        raise ConfigError(
            f"{where}: expected policies that differ in reality, all {len(real.rates)} have "
            f"{real.rates[0]:g}. Pearson r is undefined and no ranking can be wrong: add better "
            "and worse policies."
        )


def _check(real: SuccessRates, simulators: Sequence[SuccessRates]) -> None:
    count = len(real.rates)
    if count < FEWEST_POLICIES:
        raise ConfigError(
            f"expected {FEWEST_POLICIES} or more policies, got {count}. A correlation of fewer "
            "says nothing: evaluate further policies or checkpoints."
        )
    require_different(real, real.name)
    for simulator in simulators:
        if simulator.rates.shape != real.rates.shape:
            raise ConfigError(
                f"{simulator.name}: expected {count} rates, one a policy of {real.name}, got "
                f"{len(simulator.rates)}."
            )


def _redraw(
    column: SuccessRates, chosen: NDArray[np.int64], generator: np.random.Generator
) -> Rates:
    """Return the resampled rates (resamples, policies), with episodes drawn anew if known."""
    rates: Rates = column.rates[chosen]
    if column.episodes is None:
        return rates
    episodes = column.episodes[chosen]
    return np.asarray(generator.binomial(episodes, rates) / episodes, np.float64)


def _measure(
    real: SuccessRates, sim: SuccessRates, r: Rates, violations: Rates, confidence: float
) -> SimulatorFidelity:
    point = pearson(real=real.rates, sim=sim.rates)
    return SimulatorFidelity(
        name=sim.name,
        policies=len(real.rates),
        pearson=None if math.isnan(point) else point,
        pearson_interval=None if math.isnan(point) else _interval(r, confidence),
        mmrv=mean_maximum_rank_violation(real=real.rates, sim=sim.rates),
        mmrv_interval=_quantiles(violations, confidence),
        undefined=int(np.isnan(r).sum()),
    )


def _compare(
    first: SimulatorFidelity,
    other: SimulatorFidelity,
    r_gains: Rates,
    mmrv_gains: Rates,
    confidence: float,
) -> Comparison:
    defined = first.pearson is not None and other.pearson is not None
    return Comparison(
        name=other.name,
        baseline=first.name,
        pearson_gain=(other.pearson or 0.0) - (first.pearson or 0.0) if defined else None,
        pearson_interval=_interval(r_gains, confidence) if defined else None,
        mmrv_gain=first.mmrv - other.mmrv,
        mmrv_interval=_quantiles(mmrv_gains, confidence),
    )


def _interval(values: Rates, confidence: float) -> Interval | None:
    """Return the interval of the defined values; None if too few are defined."""
    defined = values[~np.isnan(values)]
    if len(defined) < LEAST_DEFINED * len(values):
        return None
    return _quantiles(defined, confidence)


def _quantiles(values: Rates, confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _paired(real: ArrayLike, sim: ArrayLike) -> tuple[Rates, Rates]:
    one, other = np.asarray(real, np.float64), np.asarray(sim, np.float64)
    if one.shape != other.shape or one.ndim != 1 or one.size == 0:
        raise ValueError(
            f"expected two arrays of shape (policies,), got real {one.shape} and sim {other.shape}"
        )
    return one, other


def _pearson(real: Rates, sim: Rates) -> Rates:
    """Return Pearson's r over the last axis; NaN where one of the two is constant."""
    x = real - real.mean(axis=-1, keepdims=True)
    y = sim - sim.mean(axis=-1, keepdims=True)
    # Centring equal rates leaves a rounding error, so compare the rates themselves.
    constant = (np.ptp(real, axis=-1) == 0) | (np.ptp(sim, axis=-1) == 0)
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip((x * y).sum(axis=-1) / scale, -1.0, 1.0)
    return np.where(constant, np.nan, r)


def _mmrv(real: Rates, sim: Rates) -> Rates:
    """Return MMRV over the last axis."""
    i, j = np.s_[..., :, None], np.s_[..., None, :]
    wrong = (sim[i] < sim[j]) != (real[i] < real[j])
    violations: Rates = (np.abs(real[i] - real[j]) * wrong).max(axis=-1).mean(axis=-1)
    return violations


def _mmrv_in_parts(real: Rates, sim: Rates) -> Rates:
    """Return MMRV of (resamples, policies) in parts, to bound the memory of all pairs."""
    size = max(1, _PAIRS_AT_ONCE // real.shape[1] ** 2)
    parts = [_mmrv(real[i : i + size], sim[i : i + size]) for i in range(0, len(real), size)]
    return np.concatenate(parts)
