"""Find the packages; everything else about the distribution is in ``pyproject.toml``.

``envs/`` and ``policies/`` stay at the top level of the repository and install as subpackages of
``spie_robo``, which setuptools' static configuration can only say package by package.
"""

from __future__ import annotations

from setuptools import find_packages, setup

MOVED = ("envs", "policies")
inside = find_packages(include=["spie_robo", "spie_robo.*"])
moved = find_packages(include=[pattern for name in MOVED for pattern in (name, f"{name}.*")])

setup(
    packages=[*inside, *(f"spie_robo.{name}" for name in moved)],
    package_dir={f"spie_robo.{name}": name for name in MOVED},
)
