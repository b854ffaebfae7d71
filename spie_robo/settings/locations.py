"""Recognise ``s3://BUCKET/KEY`` addresses among local paths.

Nothing heavy is imported, because every command checks its settings with this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, final

from spie_robo.errors import ConfigError

_URL = re.compile(r"s3:/+([^/]+)/(.+?)/*")


@final
@dataclass(frozen=True)
class Location:
    """A data set in a bucket.

    Attributes:
        bucket: Name of the bucket.
        key: Name of the object, or of the folder that its objects are in.
    """

    bucket: str
    key: str

    @staticmethod
    def of(path: str | Path) -> Location | None:
        """Return the location that ``s3://BUCKET/KEY`` names; None for a local path.

        Raises:
            ConfigError: If bucket or key is missing.
        """
        text = str(path)
        if not text.startswith("s3:/"):
            return None
        match = _URL.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text}: expected s3://BUCKET/KEY.")
        return Location(*match.groups())

    def __str__(self) -> str:
        """Return the address as ``s3://BUCKET/KEY``."""
        return f"s3://{self.bucket}/{self.key}"

    def overlaps(self, other: Location) -> bool:
        """Return whether one location lies within the other."""
        mine, theirs = PurePosixPath(self.key), PurePosixPath(other.key)
        inside = mine == theirs or mine in theirs.parents or theirs in mine.parents
        return self.bucket == other.bucket and inside


def staging_of(out: Path) -> Path:
    """Return the store beside a foreign output that holds the edits until the output is written."""
    return out.absolute().with_name(f".{out.name}.staging")


def require_here(record: Any, but: tuple[str, ...] = ()) -> None:
    """Refuse addresses in object storage where a local path is needed.

    Args:
        record: Settings record; every path in it is checked.
        but: Names of settings that may be an address.

    Raises:
        ConfigError: If a checked setting is an address.
    """
    for item in fields(record):
        value = getattr(record, item.name)
        for path in value if isinstance(value, tuple) else (value,):
            place = Location.of(path) if isinstance(path, Path) else None
            if place is None or item.name in but:
                continue
            way_out = "Write it here first; `spie-robo convert PATH s3://...` sends a store."
            if item.name not in ("out", "json", "page"):
                way_out = f"Copy it here first: `spie-robo convert {place} PATH` does for a store."
            raise ConfigError(
                f"{item.name}: expected a path of this machine, got {place}. {way_out}"
            )
