"""MkDocs hook: pages that ``nav`` does not name go to the end of the section of their folder.

A new guide then needs no line in ``mkdocs.yml``; its order does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTIONS = {"guides": "Guides", "notebooks": "Guides", "api": "API", "results": "Results"}
ELSE = "How it works"


def on_config(config: Any) -> Any:
    """Extend ``nav``."""
    listed = set(_pages(config.nav))
    docs = Path(config.docs_dir)
    found = [page.relative_to(docs).as_posix() for page in sorted(docs.rglob("*.md"))]
    made = [f"notebooks/{script.stem}.md" for script in sorted(docs.glob("notebooks/*.py"))]
    for page in [*found, *made]:
        if page not in listed:
            section = SECTIONS.get(page.split("/")[0], ELSE)
            next(entry[section] for entry in config.nav if section in entry).append(page)
    return config


def _pages(nav: Any) -> list[str]:
    """The files that a part of ``nav`` names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in _pages(part)]
