"""Print what the extra ``docs`` of a pyproject.toml needs, one requirement a line.

pip can install an extra only together with the package, which the site does not need.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extra: str) -> list[str]:
    """The requirements of one extra."""
    project = tomllib.loads(pyproject.read_text())["project"]
    return [str(line) for line in project["optional-dependencies"][extra]]


if __name__ == "__main__":
    print("\n".join(f"'{line}'" for line in requirements(Path(sys.argv[1]), "docs")))
