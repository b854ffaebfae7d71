"""Define the checks of ``spie-robo doctor``: each judges given facts and returns one record.

A failure means that something will not work, a warning that it works, but less or slower.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spie_robo.doctor.self_test import SelfTest

Status = Literal["ok", "warn", "fail"]

DISTRIBUTION = "spie-robo"
PYTHONS = ((3, 11), (3, 12), (3, 13))
OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Distributions that all own the package ``cv2``."""
PYBULLET_WHEELS = ("pybullet", "pybullet-arm64")
"""Distributions that own the module ``pybullet``: the first below Python 3.12, then the second."""
GIB = 2**30
DISK = (0.5 * GIB, 5 * GIB)
"""Free bytes below which the check fails, or warns: 100,000 raw frames of 128x128 are 5 GiB."""
MEMORY = (1 * GIB, 3 * GIB)
"""Free bytes below which the check fails, or warns: editor and guard take 0.6 GiB."""


@final
@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Name of the check.
        status: "ok"; "warn": it works, but less well or slower; "fail": something will not work.
        detail: Facts that the check found.
        way_out: Advice to the user; empty if there is none.
    """

    name: str
    status: Status
    detail: str
    way_out: str = ""


def check_python(version: tuple[int, int], system: str) -> CheckResult:
    """Check that the tests pass with this interpreter.

    Args:
        version: Major and minor version.
        system: Name of the system, from ``platform.platform()``.
    """
    detail = f"{version[0]}.{version[1]} on {system}"
    if version in PYTHONS:
        return CheckResult("python", "ok", detail)
    known = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    way_out = f"Make an environment with one of Python {known}."
    return CheckResult("python", "fail", detail, way_out)


def check_pybullet(installed: Mapping[str, str], tags: Iterable[str]) -> CheckResult:
    """Check that exactly one build of PyBullet is installed, from its published wheel.

    Args:
        installed: Version of each installed build.
        tags: Tags of the wheel; one that was built on this machine has no manylinux tag.
    """
    if not installed:
        way_out = "pip install pybullet (Python 3.11), pip install pybullet-arm64 (3.12 and 3.13)"
        return CheckResult("pybullet", "fail", "not installed", way_out)
    found = ", ".join(f"{name} {version}" for name, version in installed.items())
    if len(installed) > 1:
        way_out = (
            f"pip uninstall -y {' '.join(installed)} && pip install {list(installed)[-1]} "
            "(they overwrite each other's files)"
        )
        return CheckResult("pybullet", "warn", f"{len(installed)} wheels: {found}", way_out)
    published = any("manylinux" in tag or "macosx" in tag or "win" in tag for tag in tags)
    how = "published wheel" if published else "built from source"
    return CheckResult("pybullet", "ok", f"{found}, {how}")


def check_opencv(installed: Mapping[str, str], loaded: str | None) -> CheckResult:
    """Check that the package ``cv2`` works and will keep working.

    Several distributions own it. Of two, the last installed one is imported; after one of them is
    uninstalled, ``cv2`` is empty, although the other is still listed.

    Args:
        installed: Version of each installed OpenCV distribution.
        loaded: ``cv2.__version__``; None if ``cv2`` cannot be imported or is empty.
    """
    if not installed:
        way_out = "pip install opencv-python"
        return CheckResult("opencv", "fail", "not installed", way_out)
    found = ", ".join(f"{name} {version}" for name, version in installed.items())
    name, version = list(installed.items())[-1]
    mend = f"pip install --force-reinstall --no-deps {name}=={version}"
    if loaded is None:
        detail = f"{found} listed, but cv2 has nothing in it: another of its wheels was uninstalled"
        return CheckResult("opencv", "fail", detail, mend)
    if len(installed) == 1:
        return CheckResult("opencv", "ok", found)
    detail = f"{len(installed)} wheels: {found}; cv2 is {loaded}, of the last installed"
    way_out = f"It works until one of them is uninstalled or upgraded; after that: {mend}"
    return CheckResult("opencv", "warn", detail, way_out)


def check_requirements(
    name: str, requirements: Iterable[Requirement], installed: Mapping[str, str], extra: str = ""
) -> CheckResult:
    """Check that requirements are installed in versions that fit.

    Args:
        name: Name of the check.
        requirements: The requirements.
        installed: Version of each installed distribution, by canonical name.
        extra: Name of their extra, of which a missing package is a warning; empty for the
            requirements of the package itself.
    """
    wanted = list(requirements)
    wrong = []
    for requirement in wanted:
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            wrong.append(f"{requirement.name} missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, expected {requirement.specifier}")
    if not wrong:
        return CheckResult(name, "ok", f"{len(wanted)} packages present")
    target = f"'{DISTRIBUTION}[{extra}]'" if extra else DISTRIBUTION
    way_out = f"pip install --upgrade {target}"
    return CheckResult(name, "warn" if extra else "fail", "; ".join(wrong), way_out)


def check_torch(
    version: str | None, built_for: str | None, devices: tuple[str, ...], has_driver: bool
) -> CheckResult:
    """Check that torch can be imported and uses the machine's GPU.

    Args:
        version: Version of torch; None if it cannot be imported.
        built_for: CUDA or ROCm version of the build; None for a CPU build.
        devices: Names of the devices that torch finds.
        has_driver: Whether an NVIDIA driver is installed.
    """
    if version is None:
        return CheckResult("torch", "fail", "cannot be imported", "pip install torch")
    if devices:
        return CheckResult("torch", "ok", f"{version}, {', '.join(devices)}")
    if built_for is not None:
        detail = f"{version}, built for a GPU ({built_for}), sees none: the CPU is used"
        way_out = "Check `nvidia-smi` and the driver's version." if has_driver else ""
        return CheckResult("torch", "warn" if has_driver else "ok", detail, way_out)
    if has_driver:
        way_out = "Install the CUDA build: see https://pytorch.org/get-started/locally"
        return CheckResult("torch", "warn", f"{version}, CPU build beside an NVIDIA GPU", way_out)
    return CheckResult("torch", "ok", f"{version}, CPU build")


def check_egl(available: bool) -> CheckResult:
    """Check that PyBullet renders through EGL; without it TinyRenderer renders on the CPU."""
    if available:
        return CheckResult("egl", "ok", "PyBullet's plugin renders; use renderer='egl' or 'auto'")
    return CheckResult(
        "egl",
        "warn",
        "not available: PyBullet renders on the CPU, the same scenes more slowly",
        "apt install libegl1 and a GPU driver, if frames are to render faster",
    )


def check_space(name: str, free: float, limits: tuple[float, float], way_out: str) -> CheckResult:
    """Check that enough space is free.

    Args:
        name: Kind of the space, disk or memory.
        free: Free bytes.
        limits: Bytes below which the check fails, and below which it warns.
        way_out: Advice on how to free space.
    """
    least, enough = limits
    status: Status = "fail" if free < least else "warn" if free < enough else "ok"
    detail = f"{free / GIB:.1f} GiB free"
    if status == "ok":
        return CheckResult(name, status, detail)
    return CheckResult(name, status, f"{detail}, expected {enough / GIB:g} or more", way_out)


def check_hub_token(present: bool) -> CheckResult:
    """Check that there is a Hub token, without reading its value."""
    if present:
        return CheckResult("hub token", "ok", "present")
    detail = "none; only private and gated models need one (`hf auth login`)"
    return CheckResult("hub token", "ok", detail)


def check_cache(folder: Path) -> CheckResult:
    """Check that models from the Hub can be stored, by writing and removing a file."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return CheckResult("hub cache", "ok", f"{folder} can be written")
    except OSError as error:
        detail = f"{folder} cannot be written: {error.strerror}"
        return CheckResult("hub cache", "warn", detail, "Set HF_HOME to a folder of your own.")


def check_self_test(run: Callable[[], SelfTest]) -> CheckResult:
    """Check that the embedded editor edits a frame and the guard judges it."""
    try:
        found = run()
    except Exception as error:  # a broken installation may raise anything
        way_out = f"pip install --force-reinstall {DISTRIBUTION}, if the checks above are in order"
        return CheckResult("self-test", "fail", f"{type(error).__name__}: {error}", way_out)
    detail = (
        f"{found.milliseconds:.0f} ms/frame for edit and guard, {found.accepted} of "
        f"{found.frames} edits accepted"
    )
    if found.unchanged or not found.accepted:
        what = "gave the frame back unchanged" if found.unchanged else "broke the geometry"
        way_out = f"The weights may be damaged: pip install --force-reinstall {DISTRIBUTION}"
        return CheckResult("self-test", "fail", f"the editor {what}; {detail}", way_out)
    return CheckResult("self-test", "ok", detail)
