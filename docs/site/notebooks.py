"""MkDocs hook: every script of ``docs/notebooks`` as a page and as a notebook to download.

The scripts are in the percent format (``# %%`` begins a cell) and are run by the tests; the page
and the notebook are made from them, so that neither can say something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File

FOLDER = "notebooks"


def on_files(files: Any, config: Any) -> Any:
    """Add the two files of each script, and leave the script itself out of the site."""
    for script in sorted(Path(config.docs_dir, FOLDER).glob("*.py")):
        notebook = jupytext.read(script)
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # random otherwise, and the site would never be the same
        name = f"{FOLDER}/{script.stem}"
        page = jupytext.writes(notebook, fmt="md")
        page = page.split("---\n", 2)[-1].strip()  # without jupytext's own header
        link = f"\n\n[Download this page as a notebook]({script.stem}.ipynb)\n"
        files.append(File.generated(config, f"{name}.md", content=page + link))
        files.append(
            File.generated(config, f"{name}.ipynb", content=jupytext.writes(notebook, fmt="ipynb"))
        )
        files.remove(files.get_file_from_path(f"{name}.py"))
    return files
