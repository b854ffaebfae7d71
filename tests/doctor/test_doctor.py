from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from spie_robo import cli
from spie_robo.doctor import checks
from spie_robo.doctor import diagnose as doctor
from spie_robo.doctor.checks import CheckResult
from spie_robo.doctor.report import format_checks, healthy, summary
from spie_robo.doctor.self_test import SelfTest, run_self_test
from spie_robo.errors import EditorError

GOOD = SelfTest(frames=5, accepted=5, unchanged=False, milliseconds=240.4)


@pytest.mark.parametrize(
    ("minor", "status"),
    [(9, "fail"), (10, "fail"), (11, "ok"), (12, "ok"), (13, "ok"), (14, "fail")],
)
def test_python(minor: int, status: str) -> None:
    found = checks.check_python((3, minor), "Linux")
    assert found.status == status and f"3.{minor} on Linux" in found.detail
    assert ("3.11, 3.12, 3.13" in found.way_out) == (status == "fail")


def test_the_interpreters_are_those_that_the_package_declares() -> None:
    declared = importlib.metadata.metadata("spie-robo").get_all("Classifier") or []
    versions = [text.rpartition(" ")[2] for text in declared if ":: Python :: 3." in text]
    assert versions == [f"{major}.{minor}" for major, minor in checks.PYTHONS]


def test_pybullet() -> None:
    missing = checks.check_pybullet({}, [])
    assert missing.status == "fail" and "pip install pybullet" in missing.way_out
    wheel = checks.check_pybullet({"pybullet": "3.2.7"}, ["Tag: cp311-cp311-manylinux_2_17_x86_64"])
    assert (wheel.status, wheel.detail) == ("ok", "pybullet 3.2.7, published wheel")
    built = checks.check_pybullet({"pybullet-arm64": "3.2.8"}, ["Tag: cp312-cp312-linux_x86_64"])
    assert (built.status, built.detail) == ("ok", "pybullet-arm64 3.2.8, built from source")
    both = checks.check_pybullet({"pybullet": "3.2.7", "pybullet-arm64": "3.2.8"}, [])
    assert both.status == "warn" and "2 wheels" in both.detail
    assert "uninstall -y pybullet pybullet-arm64" in both.way_out


def test_two_opencv_wheels_are_a_warning_while_cv2_works() -> None:
    wheels = {"opencv-python": "4.10.0.84", "opencv-python-headless": "4.11.0.86"}
    both = checks.check_opencv(wheels, "4.11.0")
    assert both.status == "warn" and both.detail.startswith("2 wheels")
    mend = "pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86"
    assert both.way_out.endswith(mend) and "cv2 is 4.11.0" in both.detail
    for name in wheels:
        one = checks.check_opencv({name: "4.10.0.84"}, "4.10.0")
        assert (one.status, one.detail) == ("ok", f"{name} 4.10.0.84")
    assert checks.check_opencv({}, None).way_out == "pip install opencv-python"


@pytest.mark.parametrize("count", [1, 2])
def test_an_empty_cv2_is_a_failure_with_the_command_that_mends_it(count: int) -> None:
    """What is left after one of two wheels was uninstalled can be imported."""
    wheels = {"opencv-python": "4.10.0.84", "opencv-python-headless": "4.11.0.86"}
    shell = checks.check_opencv(dict(list(wheels.items())[:count]), None)
    name, version = list(wheels.items())[count - 1]
    assert shell.status == "fail" and "nothing in it" in shell.detail
    assert shell.way_out == f"pip install --force-reinstall --no-deps {name}=={version}"


def test_the_shell_of_cv2_is_not_taken_for_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    assert doctor._opencv_version() is None
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert doctor._opencv_version() is None


def test_requirements() -> None:
    wanted = [Requirement("Zarr_Thing>=3.1"), Requirement("numpy")]
    good = {"zarr-thing": "3.1.6", "numpy": "2.1"}
    assert checks.check_requirements("dependencies", wanted, good).status == "ok"
    old = checks.check_requirements("dependencies", wanted, {**good, "zarr-thing": "3.0"})
    assert old.status == "fail" and "Zarr_Thing 3.0, expected >=3.1" in old.detail
    extra = checks.check_requirements("extra x", wanted, {"numpy": "2.1"}, "x")
    assert extra.status == "warn" and "Zarr_Thing missing" in extra.detail
    assert extra.way_out == "pip install --upgrade 'spie-robo[x]'"


@pytest.mark.parametrize(
    ("version", "built_for", "devices", "driver", "status", "part"),
    [
        (None, None, (), False, "fail", "cannot be imported"),
        ("2.6+cpu", None, (), False, "ok", "CPU build"),
        ("2.6+cpu", None, (), True, "warn", "beside an NVIDIA GPU"),
        ("2.6", "12.4", (), True, "warn", "sees none"),
        ("2.6", "12.4", (), False, "ok", "the CPU is used"),
        ("2.6", "12.4", ("NVIDIA X", "NVIDIA Y"), True, "ok", "NVIDIA X, NVIDIA Y"),
    ],
)
def test_torch(
    version: str | None,
    built_for: str | None,
    devices: tuple[str, ...],
    driver: bool,
    status: str,
    part: str,
) -> None:
    found = checks.check_torch(version, built_for, devices, driver)
    assert found.status == status and part in found.detail
    assert bool(found.way_out) == (status != "ok")


def test_egl() -> None:
    assert checks.check_egl(True).status == "ok"
    missing = checks.check_egl(False)
    assert missing.status == "warn" and "on the CPU" in missing.detail


@pytest.mark.parametrize(("free", "status"), [(0.4, "fail"), (1.5, "warn"), (60, "ok")])
def test_space(free: float, status: str) -> None:
    found = checks.check_space("disk", free * 2**30, checks.DISK, "Make room.")
    assert found.status == status and f"{free:.1f} GiB free" in found.detail
    assert found.way_out == ("" if status == "ok" else "Make room.")


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "hub"
    assert checks.check_cache(folder).status == "ok"
    assert not (tmp_path / "new").exists()  # nothing stays behind

    def refuse(dir: Path) -> None:
        assert dir == tmp_path
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    found = checks.check_cache(folder)
    assert found.status == "warn" and "Permission denied" in found.detail
    assert "HF_HOME" in found.way_out


def test_self_test_results() -> None:
    good = checks.check_self_test(lambda: GOOD)
    assert good.status == "ok" and "240 ms/frame" in good.detail and "5 of 5" in good.detail
    unchanged = checks.check_self_test(lambda: SelfTest(5, 5, True, 1))
    assert unchanged.status == "fail" and "unchanged" in unchanged.detail
    rejected = checks.check_self_test(lambda: SelfTest(5, 0, False, 240))
    assert rejected.status == "fail" and "broke the geometry" in rejected.detail


def test_self_test_that_raises_is_a_failure() -> None:
    def broken() -> SelfTest:
        raise EditorError("weights are missing")

    found = checks.check_self_test(broken)
    assert found.status == "fail" and found.detail == "EditorError: weights are missing"
    assert found.way_out


@pytest.mark.slow
def test_self_test_edits_and_judges_a_simulator_frame() -> None:
    found = run_self_test(seconds=0)
    assert found.frames == 1 and found.accepted == 1 and not found.unchanged
    assert 5 < found.milliseconds < 60_000


def test_all_checks_of_this_machine() -> None:
    results = {result.name: result for result in doctor.diagnose(lambda: GOOD)}
    names = ["python", "pybullet", "opencv", "dependencies", "torch", "egl", "disk", "memory"]
    assert set(results) >= {*names, "extra photoreal", "hub token", "hub cache", "self-test"}
    assert "extra dev" not in results
    assert results["dependencies"].status == "ok", results["dependencies"]
    assert results["torch"].detail.startswith(importlib.metadata.version("torch").split("+")[0])
    assert "self-test" not in {result.name for result in doctor.diagnose(None)}


def test_facts_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.distributions
    gone = (*checks.PYBULLET_WHEELS, "mitsuba")
    kept = [item for item in real() if item.metadata["Name"] not in gone]
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: kept)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2, 1, 1))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    results = {result.name: result for result in doctor.diagnose(None)}
    failed = {name for name, result in results.items() if result.status == "fail"}
    assert {"pybullet", "torch", "disk", "dependencies"} <= failed
    assert re.search("pybullet(-arm64)? missing", results["dependencies"].detail)
    assert results["extra photoreal"].status == "warn"
    assert "spie-robo[photoreal]" in results["extra photoreal"].way_out
    assert "memory" not in results and "hub token" not in results


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spie_robo.envs.cameras.egl_available", lambda: False)


@pytest.mark.usefixtures("quick")
def test_command_never_shows_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_SecretThatNobodyMaySee"
    monkeypatch.setenv("HF_TOKEN", secret)
    file = tmp_path / "new" / "doctor.json"
    assert cli.main(["doctor", "--no-self-test", "--json", str(file)]) == 0
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err + file.read_text()
    record = json.loads(file.read_text())
    found = {check["name"]: check for check in record["checks"]}
    assert record["ok"] and found["hub token"]["detail"] == "present"
    assert found["egl"]["status"] == "warn"
    assert "Next: spie-robo demo" in captured.out

    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    (none,) = (r for r in doctor.diagnose(None) if r.name == "hub token")
    assert none.status == "ok" and none.detail.startswith("none")


@pytest.mark.usefixtures("quick")
def test_failure_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPENCV_WHEELS", ())
    assert cli.main(["doctor", "--no-self-test"]) == 1
    out = capsys.readouterr().out
    assert "fail  opencv" in out and "-> pip install opencv-python" in out
    assert "1 failures" in out and "Next:" not in out


@pytest.mark.usefixtures("quick")
def test_command_runs_the_self_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spie_robo.doctor.self_test.run_self_test", lambda: GOOD)
    assert cli.main(["doctor"]) == 0
    assert "240 ms/frame" in capsys.readouterr().out


def test_report() -> None:
    good, bad = CheckResult("a", "ok", "fine"), CheckResult("long", "warn", "slow", "Do this.")
    assert format_checks([good, bad]).splitlines() == [
        "ok    a     fine",
        "warn  long  slow",
        "            -> Do this.",
    ]
    assert healthy([good, bad]) and not healthy([CheckResult("b", "fail", "x")])
    assert summary([good, bad]).startswith("1 ok, 1 warnings, 0 failures")
