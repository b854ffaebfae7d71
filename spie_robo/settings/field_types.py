"""Types of settings with their own form in ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from tyro import conf


def _set_default(shown: str) -> str:
    """Return what help says of a default: nothing where "unset" says it already."""
    return "" if shown in ("None", "") else f"(default: {shown})"


# The metavar stands in ``--help`` in place of a value.
Text: TypeAlias = Annotated[str, conf.arg(metavar="TEXT")]
OptionalText: TypeAlias = Annotated[
    str | None, conf.arg(metavar="TEXT", help_behavior_hint=_set_default)
]
OptionalPath: TypeAlias = Annotated[
    Path | None, conf.arg(metavar="PATH", help_behavior_hint=_set_default)
]
Count: TypeAlias = Annotated[int, conf.arg(metavar="N")]
OptionalCount: TypeAlias = Annotated[
    int | None, conf.arg(metavar="N", help_behavior_hint=_set_default)
]
Number: TypeAlias = Annotated[float, conf.arg(metavar="X")]
Numbers: TypeAlias = Annotated[tuple[float, ...], conf.arg(metavar="X ...")]
Names: TypeAlias = Annotated[
    tuple[str, ...], conf.arg(metavar="NAME ...", help_behavior_hint=_set_default)
]
# A flag --no-NAME is all there is of it: "default: True" would read as if that were set.
GuardSwitch: TypeAlias = Annotated[bool, conf.arg(help_behavior_hint="(unset: a guard judges)")]
Store: TypeAlias = Annotated[Path, conf.arg(metavar="STORE"), conf.Positional]
Stores: TypeAlias = Annotated[tuple[Path, ...], conf.arg(metavar="STORE ..."), conf.Positional]
PolicyFolder: TypeAlias = Annotated[Path, conf.arg(metavar="DIR"), conf.Positional]
