"""What is tested is the installed package, and importing it is light."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HEAVY = {"torch", "diffusers", "transformers", "zarr", "cv2", "pybullet", "skimage", "mitsuba"}
REPOSITORY = Path(__file__).resolve().parents[1]


def run_python(code: str, directory: Path) -> str:
    """Standard output of ``code`` in a fresh interpreter started in ``directory``."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["spie_robo", "spie_robo.envs", "spie_robo.policies"])
def test_import_comes_from_the_installation(name: str, tmp_path: Path) -> None:
    """Started elsewhere, Python finds the same file as this test run did."""
    module = __import__(name, fromlist=["__file__"])
    elsewhere = run_python(f"import {name} as m; print(m.__file__)", tmp_path)
    assert Path(str(module.__file__)) == Path(elsewhere)
    direct_url = metadata.distribution("spie-robo").read_text("direct_url.json") or "{}"
    if not json.loads(direct_url).get("dir_info", {}).get("editable", False):
        assert "site-packages" in Path(elsewhere).parts


@pytest.mark.parametrize("folder", ["spie_robo", "envs", "policies"])
def test_every_module_of_the_tree_is_installed(folder: str) -> None:
    """A package that the wheel forgot would be missed by its users only."""
    files = [path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).rglob("*.py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    installed = [name if folder == "spie_robo" else f"spie_robo.{name}" for name in names]
    assert installed and not [name for name in installed if importlib.util.find_spec(name) is None]


def test_working_folder_is_not_on_the_path() -> None:
    """Otherwise a file that the wheel forgot would still be found."""
    assert str(REPOSITORY) not in {str(Path(entry).resolve()) for entry in sys.path if entry}
    assert "" not in sys.path


@pytest.mark.parametrize(
    "resource",
    ["py.typed", "reporting/template.html", "reporting/style.css", "reporting/script.js"],
)
def test_package_data_is_installed(resource: str) -> None:
    import spie_robo

    assert (Path(spie_robo.__file__).parent / resource).is_file()


@pytest.mark.parametrize("module", ["spie_robo", "spie_robo.cli", "spie_robo.commands"])
def test_import_is_light(module: str, tmp_path: Path) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(run_python(code, tmp_path))}
    assert not loaded & HEAVY


def test_help_is_light(tmp_path: Path) -> None:
    code = (
        "import contextlib, io, json, sys\n"
        "from spie_robo.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    code = main(['--help'])\n"
        "assert 'record' in out.getvalue() and code == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = {name.partition(".")[0] for name in json.loads(run_python(code, tmp_path))}
    assert not loaded & HEAVY


def test_entry_point_is_declared() -> None:
    scripts = metadata.distribution("spie-robo").entry_points.select(group="console_scripts")
    assert [(s.name, s.value) for s in scripts] == [("spie-robo", "spie_robo.cli:main")]
