"""Run ``spie-robo doctor``: find what works on this machine and what does not.

This module gathers the facts; :mod:`spie_robo.doctor.checks` judges them.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spie_robo.doctor import checks
from spie_robo.doctor.checks import DISTRIBUTION, OPENCV_WHEELS, PYBULLET_WHEELS, CheckResult
from spie_robo.doctor.self_test import SelfTest, run_self_test

DEVELOPERS = ("dev", "docs")
"""Extras that only whoever works on this package needs."""


def diagnose(
    self_test: Callable[[], SelfTest] | None = run_self_test,
) -> tuple[CheckResult, ...]:
    """Run all checks on this machine.

    Args:
        self_test: Function that edits a few frames; None leaves it out.
    """
    results = [
        checks.check_python(sys.version_info[:2], platform.platform(terse=True)),
        *_packages(),
        _torch(),
        _egl(),
        *_room(),
        *_hub(),
    ]
    if self_test is not None:
        results.append(checks.check_self_test(self_test))
    return tuple(results)


def _packages() -> list[CheckResult]:
    installed: dict[str, str] = {
        canonicalize_name(item.metadata["Name"]): item.version
        for item in metadata.distributions()
        if item.metadata["Name"]
    }
    bullet = {name: installed[name] for name in PYBULLET_WHEELS if name in installed}
    tags: list[str] = []
    for name in bullet:
        wheel = metadata.distribution(name).read_text("WHEEL") or ""
        tags += [line for line in wheel.splitlines() if line.startswith("Tag:")]
    opencv = {name: installed[name] for name in OPENCV_WHEELS if name in installed}
    found = [
        checks.check_pybullet(bullet, tags),
        checks.check_opencv(opencv, _opencv_version()),
    ]
    if opencv:  # any of its wheels serves
        installed.setdefault("opencv-python", next(iter(opencv.values())))
    if DISTRIBUTION not in installed:
        way_out = "pip install -e . in the checkout"
        return [*found, CheckResult("dependencies", "fail", "spie-robo not installed", way_out)]
    needed, extras = _requirements(metadata.requires(DISTRIBUTION) or [])
    found.append(checks.check_requirements("dependencies", needed, installed))
    for extra, requirements in extras.items():
        found.append(checks.check_requirements(f"extra {extra}", requirements, installed, extra))
    return found


def _opencv_version() -> str | None:
    """Return the version of ``cv2``; None if it is missing or empty."""
    try:
        import cv2
    except (ImportError, OSError):  # OSError: a shared library of another build
        return None
    return getattr(cv2, "__version__", None)


def _requirements(lines: Iterable[str]) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Return the requirements of the package and of each extra, without ``dev``."""
    needed: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        marker = str(requirement.marker or "")
        if "extra ==" not in marker:
            if requirement.marker is None or requirement.marker.evaluate():
                needed.append(requirement)
            continue
        extra = marker.partition("extra ==")[2].split('"')[1]
        wanted = requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
        if wanted and extra not in DEVELOPERS:
            extras.setdefault(extra, []).append(requirement)
    return needed, extras


def _torch() -> CheckResult:
    has_driver = shutil.which("nvidia-smi") is not None
    try:
        import torch
    except (ImportError, OSError):  # OSError: a shared library of another build
        return checks.check_torch(None, None, (), has_driver)
    devices = tuple(
        torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    )
    built_for = torch.version.cuda or torch.version.hip
    return checks.check_torch(str(torch.__version__), built_for, devices, has_driver)


def _egl() -> CheckResult:
    try:
        from spie_robo.envs.cameras import egl_available
    except ImportError:
        return checks.check_egl(False)
    return checks.check_egl(egl_available())


def _room() -> list[CheckResult]:
    disk = shutil.disk_usage(Path.cwd()).free
    found = [checks.check_space("disk", disk, checks.DISK, "Free space, or work elsewhere.")]
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:  # accelerate needs it too, so that it is reported under dependencies
        return found
    memory = psutil.virtual_memory().available
    return [*found, checks.check_space("memory", memory, checks.MEMORY, "Close other programs.")]


def _hub() -> list[CheckResult]:
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError:  # reported under dependencies
        return []
    present = huggingface_hub.get_token() is not None
    return [checks.check_hub_token(present), checks.check_cache(Path(constants.HF_HUB_CACHE))]
