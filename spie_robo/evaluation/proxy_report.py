"""Report proxy fidelity: a table, a sentence for each comparison, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from spie_robo.evaluation.proxy import Comparison, Interval, ProxyFidelity, SimulatorFidelity

_ROUNDING = 1e-9
"""Gains nearer to zero are rounding errors, e.g. of equal rates in another order."""


def format_fidelity(result: ProxyFidelity) -> str:
    """Return the table as aligned text, one line a simulator."""
    percent = f"{100 * result.confidence:g} %"
    lines = [["simulator", "policies", f"Pearson r [{percent}]", f"MMRV [{percent}]"]]
    for one in result.simulators:
        r = "undefined" if one.pearson is None else f"{one.pearson:.3f}"
        lines.append(
            [
                one.name,
                str(one.policies),
                f"{r}{_bracket(one.pearson_interval)}",
                f"{one.mmrv:.3f}{_bracket(one.mmrv_interval)}",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:]])


def notes(result: ProxyFidelity) -> tuple[str, ...]:
    """Return notes on the table: where r is undefined, and what was resampled."""
    found = [note for one in result.simulators if (note := _undefined(one, result)) is not None]
    resampled = ", ".join(result.resampled_episodes)
    also = f" and of the episodes of {resampled}" if resampled else ", not of episodes"
    found.append(
        f"Intervals: {result.resamples} bootstrap resamples of the policies{also}; seed "
        f"{result.seed}."
    )
    names = [one.name for one in result.simulators]
    without = [name for name in names if name not in result.resampled_episodes]
    if without and len(without) < len(names):
        found.append(
            f"Without episodes: {', '.join(without)}. Rates are taken as exact there and not "
            "elsewhere: give episodes for every simulator before comparing them."
        )
    return tuple(found)


def _undefined(one: SimulatorFidelity, result: ProxyFidelity) -> str | None:
    if one.pearson is None:
        return (
            f"{one.name}: all {one.policies} policies have the same rate, so Pearson r is "
            "undefined; this simulator does not tell them apart."
        )
    if one.pearson_interval is None:
        return (
            f"{one.name}: r is undefined in {one.undefined} of {result.resamples} resamples, too "
            "many for an interval; more policies are needed."
        )
    return None


def verdict(comparison: Comparison) -> str:
    """Return one sentence that says which simulator predicts better, and how surely.

    A simulator predicts better if its r is higher and its MMRV no higher, or the other way round.
    """
    name, baseline = comparison.name, comparison.baseline
    details = f"r {_gain(comparison.pearson_gain, comparison.pearson_interval, 'higher', 'lower')}"
    violation = _gain(comparison.mmrv_gain, comparison.mmrv_interval, "lower", "higher")
    details += f", MMRV {violation}"
    found = (comparison.mmrv_gain, comparison.pearson_gain)
    gains = [gain for gain in found if gain is not None and abs(gain) > _ROUNDING]
    if any(gain > 0 for gain in gains) and any(gain < 0 for gain in gains):
        return f"{name} and {baseline} are each better by one measure: {details} for {name}."
    if not gains:
        return f"{name} and {baseline} predict equally well: {details}."
    ahead = sum(gains) > 0
    better, worse = (name, baseline) if ahead else (baseline, name)
    shown = [comparison.pearson_interval, comparison.mmrv_interval]
    sure = any(i is not None and _excludes_zero(i) and (i[0] > 0) == ahead for i in shown)
    hedge = "" if sure else ", but these policies are too few or too alike to be sure"
    return f"{better} predicts better than {worse}{hedge}: {details} for {name}."


def _gain(gain: float | None, interval: Interval | None, better: str, worse: str) -> str:
    if gain is None:
        return "cannot be compared"
    words = f"{abs(gain):.3f} {better if gain >= 0 else worse}"
    if interval is None:
        return f"{words} (no interval)"
    low, high = interval
    zero = "excludes" if _excludes_zero(interval) else "includes"
    return f"{words} (gain {low:+.3f} to {high:+.3f}, {zero} zero)"


def _excludes_zero(interval: Interval) -> bool:
    return interval[0] > _ROUNDING or interval[1] < -_ROUNDING


def _bracket(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def fidelity_as_json(result: ProxyFidelity, source: str) -> dict[str, Any]:
    """Return the result as plain JSON values; undefined values are null.

    Args:
        result: The measured fidelity.
        source: File of the rates.
    """
    return {
        "source": source,
        **asdict(result),
        "verdicts": [verdict(comparison) for comparison in result.comparisons],
        "notes": list(notes(result)),
    }
