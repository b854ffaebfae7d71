"""Where data sets are: ``s3://BUCKET/KEY``, told from a path of this machine, and unfinished ones.

Nothing heavy is imported: the settings of every command are looked at with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

from spie_robo.errors import ConfigError

_URL = re.compile(r"s3:/+([^/]+)/(.+?)/*")


@final
@dataclass(frozen=True)
class Location:
    """A data set in a bucket.

    Attributes:
        bucket: Name of the bucket.
        key: Name of the object, or what the names of its objects start with, before a slash.
    """

    bucket: str
    key: str

    @staticmethod
    def of(path: str | Path) -> Location | None:
        """The location that ``s3://BUCKET/KEY`` names; None for a path of this machine.

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
        """As people write it."""
        return f"s3://{self.bucket}/{self.key}"

    def overlaps(self, other: Location) -> bool:
        """Whether one lies within the other."""
        mine, theirs = PurePosixPath(self.key), PurePosixPath(other.key)
        inside = mine == theirs or mine in theirs.parents or theirs in mine.parents
        return self.bucket == other.bucket and inside


def staging_of(out: Path) -> Path:
    """The store beside an output in a foreign format, which holds its edits until it is written."""
    return out.absolute().with_name(f".{out.name}.staging")
