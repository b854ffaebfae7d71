"""README and the documentation say what the package and the results say."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
RENDER = ROOT / "benchmarks" / "tools" / "render_tables.py"
FOLDERS = {"spie_robo": "spie_robo", "spie_robo.envs": "envs", "spie_robo.policies": "policies"}
"""Where the modules of a package stand in the repository."""
FACES = {
    "spie_robo": "spie_robo",
    "spie_robo.data": "data",
    "spie_robo.editor": "editor",
    "spie_robo.feedback": "feedback",
    "spie_robo.guard": "guard",
    "spie_robo.policies": "policies",
    "spie_robo.reporting": "reporting",
    "spie_robo.wrappers": "simulators_and_wrappers",
}
"""Packages with a list of public names, and the page that describes them."""


def modules_with_examples() -> list[str]:
    """Names of the modules that have ``>>>`` in a docstring."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in path.read_text():
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join((package, *parts)).removesuffix(".__init__"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_docstring_give_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0 and results.failed == 0


def test_no_example_of_a_docstring_is_skipped() -> None:
    skipped = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in FOLDERS.values()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "doctest: +SKIP" in line
    ]
    assert not skipped


@pytest.mark.slow
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda script: script.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NOTEBOOK_OUT", str(tmp_path))
    monkeypatch.setenv("NOTEBOOK_EPISODES", "1")
    monkeypatch.setenv("NOTEBOOK_STEPS", "2")
    runpy.run_path(str(script))
    assert list(tmp_path.glob("*.png"))
    assert "rejected" not in capsys.readouterr().out


def test_notebooks_are_in_cells_that_begin_with_words() -> None:
    assert [script.stem for script in NOTEBOOKS] == ["quickstart", "your_simulator"]
    for script in NOTEBOOKS:
        cells = script.read_text().split("# %%")
        assert cells[0] == "" and cells[1].startswith(" [markdown]\n# # ")
        assert len(cells) > 5


@pytest.mark.slow
def test_tables_and_figures_are_those_of_the_kept_results() -> None:
    done = subprocess.run(
        [sys.executable, str(RENDER), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (
        f"run python {RENDER.relative_to(ROOT)}\n{done.stdout}{done.stderr}"
    )


def test_every_page_of_results_has_its_tables_from_the_results() -> None:
    pages = {page.stem: page.read_text() for page in (DOCS / "results").glob("*.md")}
    by_hand = {name for name, text in pages.items() if "<!-- table: " not in text}
    assert by_hand == {"notes"}
    for name, text in pages.items():
        between = re.sub(r"<!-- table: .*?<!-- end -->", "", text, flags=re.DOTALL)
        assert "\n|" not in between, f"{name}: a table that no results stand behind"


@pytest.mark.parametrize(("package", "page"), FACES.items(), ids=FACES.keys())
def test_every_public_name_stands_on_a_page_of_the_api(package: str, page: str) -> None:
    text = (DOCS / "api" / f"{page}.md").read_text()
    names = set(re.findall(r"[A-Za-z_]\w*", text))
    public = {name for name in importlib.import_module(package).__all__ if name[0] != "_"}
    assert not public - names


def test_links_of_readme_and_contributing_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text()
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in link:
                assert (ROOT / link).exists(), f"{name}: {link}"


def test_files_that_the_pages_name_are_there() -> None:
    pages = [*DOCS.rglob("*.md"), *(ROOT / "configs").rglob("*.yaml"), ROOT / "README.md"]
    folders = "spie_robo|envs|policies|benchmarks|examples|configs|tests|plugins|docs"
    named = re.compile(rf"(?<![\w/])((?:{folders})/[\w/.-]+\.(?:py|yaml|md|json|csv|sh|txt))\b")
    for page in pages:
        for name in named.findall(page.read_text()):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)}: {name}"


def test_readme_can_be_read_in_one_go() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 110
    prose = re.sub(r"<!-- table: .*?<!-- end -->|```.*?```", "", text, flags=re.DOTALL)
    for jargon in (" twin", "surfaces"):
        assert jargon not in prose.lower()
