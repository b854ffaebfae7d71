"""MkDocs hook: the package's source as a wheel lays it out, for the API pages to be read from.

``envs/`` and ``policies/`` stand at the top of the repository and install as ``spie_robo.envs`` and
``spie_robo.policies``. The API pages are read from source without importing it, so the reader needs
a folder in which they stand where they are installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"spie_robo": "spie_robo", "spie_robo.envs": "envs", "spie_robo.policies": "policies"}
"""Where a package comes from in the repository, as ``setup.py`` has it."""

TREE = ROOT / "out" / "package_tree"


def on_startup(command: str, dirty: bool) -> None:
    """Build the tree before mkdocstrings looks for it, which it does as it reads its settings."""
    build_tree(ROOT, TREE)


def build_tree(root: Path, tree: Path) -> None:
    """Copy the source of every package into ``tree``, where the wheel would have it.

    Args:
        root: The repository.
        tree: The folder to make; what it held before is removed.
    """
    shutil.rmtree(tree, ignore_errors=True)
    for name, folder in PACKAGES.items():
        target = tree.joinpath(*name.split("."))
        shutil.copytree(root / folder, target, ignore=_all_but_source)


def _all_but_source(folder: str, names: list[str]) -> list[str]:
    """What of a folder is neither a module, nor a stub, nor a folder (the reader skips links)."""
    return [
        name
        for name in names
        if name == "__pycache__"
        or not (name.endswith((".py", ".pyi")) or Path(folder, name).is_dir())
    ]
