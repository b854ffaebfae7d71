"""Every Python block of the guides runs, where its package is installed.

``benchmarks/simulators.py`` runs those of the packages that cannot share an environment.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides" / "simulators"
PAGES = sorted(GUIDES.glob("*.md"))


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("mujoco_gl")
@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for package in re.findall(r"<!-- needs: (\w+) -->", page.read_text()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here; benchmarks/simulators.py runs it")
    namespace: dict[str, object] = {}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), namespace)
    if "<!-- needs" in page.read_text():
        assert re.search(r"(True|False)$", capsys.readouterr().out.strip())


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    index = (GUIDES / "index.md").read_text()
    links = set(re.findall(r"\]\(([\w.]+\.md)\)", index))
    assert links == {page.name for page in PAGES} - {"index.md"}
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / link).exists(), (page.name, link)


def test_every_simulator_that_has_a_name_is_in_the_index() -> None:
    from spie_robo.simulators import SIMULATORS

    index = (GUIDES / "index.md").read_text()
    assert all(f"`{entry.key}`" in index for entry in SIMULATORS)
