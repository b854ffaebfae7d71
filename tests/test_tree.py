"""The plan of the house: imports point one way, and a name stands in one place."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def walk() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "tools" / "tree_walk.py"))


@pytest.fixture(scope="module")
def imports(walk: dict[str, Any]) -> dict[str, set[str]]:
    known = walk["modules"](ROOT)
    assert len(known) > 100
    return {name: walk["imported"](name, path, known) for name, path in known.items()}


def test_no_modules_import_each_other(walk: dict[str, Any], imports: dict[str, set[str]]) -> None:
    assert walk["circles"](imports) == []


def test_no_rooms_import_each_other(walk: dict[str, Any], imports: dict[str, set[str]]) -> None:
    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    between: dict[str, set[str]] = {}
    for module, others in imports.items():
        between.setdefault(room(module), set()).update(
            room(other) for other in others if room(other) not in (room(module), "spie_robo")
        )
    between.pop("spie_robo", None)
    assert walk["circles"](between) == []


def test_a_public_name_stands_in_one_module(walk: dict[str, Any]) -> None:
    homes = walk["public_names"](walk["modules"](ROOT))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_a_circle_and_a_double_name_are_found(walk: dict[str, Any], tmp_path: Path) -> None:
    files = {
        "a.py": "import spie_robo.b\ndef f(): pass",
        "b.py": "from spie_robo import a\ndef f(): pass",
    }
    for room in ("spie_robo", "envs", "policies"):
        (tmp_path / room).mkdir()
    for name, text in files.items():
        (tmp_path / "spie_robo" / name).write_text(text)
    known = walk["modules"](tmp_path)
    found = {name: walk["imported"](name, path, known) for name, path in known.items()}
    assert walk["circles"](found) == [{"spie_robo.a", "spie_robo.b"}]
    assert walk["public_names"](known)["f"] == ["spie_robo.a", "spie_robo.b"]
