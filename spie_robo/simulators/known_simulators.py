"""Finds the simulator of an environment from its classes, without importing any simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

from spie_robo.errors import EnvError
from spie_robo.simulators.mujoco import find_scene
from spie_robo.simulators.views import Simulator, layers


@final
@dataclass(frozen=True)
class SimulatorEntry:
    """A simulator that can be named and found.

    Attributes:
        key: Its name in ``geometry="..."``.
        packages: Packages whose env classes are of this simulator.
        module: Module of :mod:`spie_robo.simulators` that reads it.
        cls: The class there.
    """

    key: str
    packages: tuple[str, ...]
    module: str
    cls: str

    def make(self) -> Simulator:
        """Return the simulator with its default settings."""
        home = import_module(f"spie_robo.simulators.{self.module}")
        simulator: Simulator = getattr(home, self.cls)()
        return simulator


# The first that fits: what stands on MuJoCo comes before MuJoCo itself.
SIMULATORS = (
    SimulatorEntry("metaworld", ("metaworld",), "metaworld", "MetaWorld"),
    SimulatorEntry("dm_control", ("gym_aloha", "dm_control"), "dm_control", "DMControl"),
    SimulatorEntry("libero", ("libero",), "libero", "Libero"),
    SimulatorEntry("robosuite", ("robosuite",), "robosuite", "Robosuite"),
    SimulatorEntry("maniskill", ("mani_skill",), "maniskill", "ManiSkill"),
    SimulatorEntry("isaac_lab", ("isaaclab", "isaaclab_tasks"), "isaac_lab", "IsaacLab"),
    SimulatorEntry("pybullet", ("panda_gym",), "pybullet", "PyBullet"),
    SimulatorEntry("mujoco", ("gymnasium_robotics", "gymnasium.envs.mujoco"), "mujoco", "MuJoCo"),
)


def find_simulator(env: Any) -> Simulator | None:
    """Return what reads the geometry of an environment.

    Args:
        env: A single environment, or one that simulates many worlds at once.

    Returns:
        The simulator; None if the env is of none that is known here.
    """
    families = set(_packages(env))
    for entry in SIMULATORS:
        if any(_inside(family, entry.packages) for family in families):
            return entry.make()
    return named_simulator("mujoco") if find_scene(env) is not None else None


def named_simulator(key: str) -> Simulator:
    """Return the simulator of a name.

    Raises:
        EnvError: If there is none, with the names that there are.
    """
    for entry in SIMULATORS:
        if entry.key == key:
            return entry.make()
    names = ", ".join(entry.key for entry in SIMULATORS)
    raise EnvError(f'geometry: expected "none" or a simulator ({names}), got {key!r}.')


def _packages(env: Any) -> Iterator[str]:
    """Yield the modules of the classes of an env and of all that it wraps."""
    for layer in layers(env):
        for cls in type(layer).__mro__:
            yield cls.__module__


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    """Return whether a module is one of the packages or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)
