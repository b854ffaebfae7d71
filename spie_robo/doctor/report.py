"""Report the results of ``spie-robo doctor`` as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spie_robo.doctor.checks import CheckResult


def healthy(results: Sequence[CheckResult]) -> bool:
    """Return whether no check failed; warnings are allowed."""
    return all(result.status != "fail" for result in results)


def format_checks(results: Sequence[CheckResult]) -> str:
    """Return the table: one line a check, with the way out below it."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"{result.status:4}  {result.name:{width}}  {result.detail}")
        if result.way_out:
            lines.append(f"{'':4}  {'':{width}}  -> {result.way_out}")
    return "\n".join(lines)


def summary(results: Sequence[CheckResult]) -> str:
    """Return the number of failures and the next step in one line."""
    count = {s: sum(result.status == s for result in results) for s in ("ok", "warn", "fail")}
    line = f"{count['ok']} ok, {count['warn']} warnings, {count['fail']} failures"
    if not healthy(results):
        return f"{line}. Do what stands after the arrows, then run spie-robo doctor again."
    return f"{line}.\nNext: spie-robo demo --out demo"


def checks_as_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """Return the results as plain JSON values."""
    return {"ok": healthy(results), "checks": [asdict(result) for result in results]}
