"""Finding a simulator: without importing any, and never one that is not there."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest

from spie_robo.errors import EnvError
from spie_robo.simulators import SIMULATORS, Simulator, find_simulator, named_simulator


def test_importing_and_searching_imports_no_simulator_and_no_torch():
    program = (
        "import sys, gymnasium as gym; from spie_robo.simulators import *;"
        "assert find_simulator(gym.make('CartPole-v1')) is None;"
        "[named_simulator(entry.key) for entry in SIMULATORS];"
        "found = {'torch', 'mujoco', 'pybullet', 'robosuite', 'mani_skill'} & set(sys.modules);"
        "raise SystemExit(', '.join(found) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("entry", SIMULATORS, ids=lambda entry: entry.key)
def test_every_entry_makes_a_simulator_that_is_found_by_the_classes_of_its_package(entry):
    made = entry.make()
    assert isinstance(made, Simulator) and named_simulator(entry.key).name == made.name
    for package in entry.packages:
        inner = type("Env", (), {"__module__": f"{package}.deep.inside"})()
        wrapped = gym.Wrapper.__new__(gym.Wrapper)
        vars(wrapped)["env"] = inner
        assert find_simulator(wrapped).name == made.name


def test_a_package_whose_name_only_begins_alike_is_not_taken_for_it():
    assert find_simulator(type("Env", (), {"__module__": "metaworldlike.envs"})()) is None


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(EnvError, match=r"metaworld, .*mujoco"):
        named_simulator("isaac")
