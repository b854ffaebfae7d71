"""Types of settings with their own form in ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from tyro import conf

# The metavar stands in ``--help`` in place of a value.
Text: TypeAlias = Annotated[str, conf.arg(metavar="TEXT")]
OptionalText: TypeAlias = Annotated[str | None, conf.arg(metavar="TEXT")]
OptionalPath: TypeAlias = Annotated[Path | None, conf.arg(metavar="PATH")]
Count: TypeAlias = Annotated[int, conf.arg(metavar="N")]
OptionalCount: TypeAlias = Annotated[int | None, conf.arg(metavar="N")]
Number: TypeAlias = Annotated[float, conf.arg(metavar="X")]
Numbers: TypeAlias = Annotated[tuple[float, ...], conf.arg(metavar="X ...")]
Names: TypeAlias = Annotated[tuple[str, ...], conf.arg(metavar="NAME ...")]
Store: TypeAlias = Annotated[Path, conf.arg(metavar="STORE"), conf.Positional]
Stores: TypeAlias = Annotated[tuple[Path, ...], conf.arg(metavar="STORE ..."), conf.Positional]
PolicyFolder: TypeAlias = Annotated[Path, conf.arg(metavar="DIR"), conf.Positional]
