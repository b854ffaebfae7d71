"""A perturbation changes one thing about the look, and nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from spie_robo.envs.perturbations import PERTURBATIONS, PerturbationWrapper
from spie_robo.errors import ConfigError, EnvError


def plain() -> Any:
    return gym.make("SpieRobo/Push-v0", width=64, height=64)


def changed(kind: Any, seed: int = 3) -> dict[str, float]:
    """Mean absolute change of each body's pixels in the front image."""
    raw, _ = plain().reset(seed=seed)
    observation, info = PerturbationWrapper(plain(), kind).reset(seed=seed)
    difference = np.abs(observation["front"].astype(float) - raw["front"]).mean(axis=2)
    geometry = info["geometry"]["front"]
    return {
        name: float(difference[geometry.segmentation == body].mean())
        for body, name in geometry.names.items()
        if (geometry.segmentation == body).any()
    }


@pytest.mark.parametrize(
    ("kind", "bodies"),
    [("background", {"wall"}), ("table-texture", {"table"}), ("robot-texture", {"panda"})],
)
def test_only_the_named_bodies_change(kind: str, bodies: set[str]) -> None:
    for name, difference in changed(kind).items():
        assert (difference > 3) == (name in bodies), (name, difference)


@pytest.mark.parametrize("kind", ["light-intensity", "light-color", "camera-noise"])
def test_light_and_noise_change_everything(kind: str) -> None:
    assert min(changed(kind).values()) > 1


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_physics_and_ground_truth_stay(kind: Any) -> None:
    env, other = plain(), PerturbationWrapper(plain(), kind)
    env.reset(seed=1)
    other.reset(seed=1)
    for _ in range(3):
        action = np.array([1, 0.5, -1, 0], np.float32)
        one, two = env.step(action), other.step(action)
        np.testing.assert_array_equal(one[0]["state"], two[0]["state"])
        depths = [result[4]["geometry"]["front"].depth for result in (one, two)]
        np.testing.assert_array_equal(*depths)
        assert two[0] in other.observation_space


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_equal_seeds_equal_looks_and_episodes_differ(kind: Any) -> None:
    env = PerturbationWrapper(plain(), kind)
    first, second = env.reset(seed=4)[0]["front"], env.reset()[0]["front"]
    np.testing.assert_array_equal(first, env.reset(seed=4)[0]["front"])
    assert not np.array_equal(first, second)


def test_closing_leaves_the_first_look() -> None:
    inner = plain()
    env = PerturbationWrapper(inner, "table-texture")
    with pytest.raises(EnvError, match="already"):
        PerturbationWrapper(env, "background")
    env.close()


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="light-intensity"):
        PerturbationWrapper(plain(), "fog")  # type: ignore[arg-type]
