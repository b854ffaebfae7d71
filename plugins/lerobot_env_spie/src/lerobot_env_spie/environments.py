"""Environment types for LeRobot's command line: our tasks, and ``realistic_X`` for every type X."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig, HILSerlRobotEnvConfig, HubEnvConfig
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

import spie_robo.envs  # noqa: F401 - registers the tasks, in processes of AsyncVectorEnv too
from lerobot_env_spie.look_seed_envs import LookSeedEnvs
from lerobot_env_spie.step import RealismConfig, RealismProcessorStep
from spie_robo.errors import ConfigError

REALISTIC = "realistic_"
CAMERAS = ("front", "wrist")
TASKS = {
    "Reach-v0": "move the gripper to the green goal",
    "Push-v0": "push the cube onto the green goal",
    "PickPlace-v0": "put the cube onto the green goal",
}
"""Our tasks and what a policy that reads is told."""


@EnvConfig.register_subclass("spie_robo")
@dataclass
class SpieRoboEnv(EnvConfig):
    """A Franka Panda at a table, seen by a front and a wrist camera; frames are raw.

    Attributes:
        task: "Reach-v0", "Push-v0" or "PickPlace-v0".
        width: Pixels of both cameras.
        height: Pixels of both cameras.
        episode_length: Steps after which an episode is cut off; 0 keeps the task's own number.
        distractors: Number of further objects that the task does not need.
    """

    task: str | None = "Push-v0"
    fps: int = 20
    width: int = 128
    height: int = 128
    episode_length: int = 0
    distractors: int = 0
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the task and fill in what a policy sees."""
        if self.task not in TASKS:
            raise ConfigError(f"env.task: expected one of {', '.join(TASKS)}, got {self.task!r}.")
        image = PolicyFeature(type=FeatureType.VISUAL, shape=(self.height, self.width, 3))
        self.features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(4,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(14,)),
            **{f"pixels/{camera}": image for camera in CAMERAS},
        }
        self.features_map = {
            ACTION: ACTION,
            "agent_pos": OBS_STATE,
            **{f"pixels/{camera}": f"{OBS_IMAGES}.{camera}" for camera in CAMERAS},
        }

    @property
    def gym_id(self) -> str:
        """Id in Gymnasium's registry."""
        return f"SpieRobo/{self.task}"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What ``gym.make`` is told."""
        keywords: dict[str, Any] = {
            "width": self.width,
            "height": self.height,
            "distractors": self.distractors,
            "render_mode": "rgb_array",
        }
        return keywords | (
            {"max_episode_steps": self.episode_length} if self.episode_length else {}
        )

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Make one vector environment, as ``{type: {0: environments}}``."""
        make = partial(make_tabletop, self.gym_id, TASKS[str(self.task)], self.gym_kwargs)
        mode = AutoresetMode.SAME_STEP
        envs = (
            AsyncVectorEnv([make] * n_envs, autoreset_mode=mode, context="forkserver")
            if use_async_envs and n_envs > 1
            else SyncVectorEnv([make] * n_envs, autoreset_mode=mode)
        )
        return {self.type: {0: envs}}


def make_tabletop(gym_id: str, text: str, keywords: dict[str, Any]) -> gym.Env[Any, Any]:
    """One environment whose observations have the names that LeRobot looks for."""
    return LeRobotNames(gym.make(gym_id, disable_env_checker=True, **keywords), text)


class LeRobotNames(gym.ObservationWrapper[Any, Any, Any]):
    """Renames observations: ``{"pixels": {"front", "wrist"}, "agent_pos"}``.

    Attributes:
        task: What the robot is to do.
        task_description: The same, under LeRobot's other name.
    """

    def __init__(self, env: gym.Env[Any, Any], text: str) -> None:
        """Wrap a tabletop environment whose task is ``text``."""
        super().__init__(env)
        self.task = self.task_description = text
        inner = env.observation_space
        assert isinstance(inner, spaces.Dict)
        pixels = spaces.Dict({camera: inner[camera] for camera in CAMERAS})
        self.observation_space = spaces.Dict({"pixels": pixels, "agent_pos": inner["state"]})

    def observation(self, observation: Any) -> dict[str, Any]:
        """The renamed observation."""
        pixels = {camera: observation[camera] for camera in CAMERAS}
        return {"pixels": pixels, "agent_pos": observation["state"]}


class _RealisticMethods(EnvConfig if TYPE_CHECKING else object):  # type: ignore[misc]
    """What ``realistic_X`` does beside X."""

    realism: RealismConfig

    @property
    def package_name(self) -> str:
        """That of X, which LeRobot derives from the name of the type."""
        return super().package_name.replace(REALISTIC, "", 1)

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Make X's environments, with a seed of the look in their observations."""
        made = super().create_envs(n_envs, use_async_envs)
        return {
            suite: {number: LookSeedEnvs(envs) for number, envs in tasks.items()}
            for suite, tasks in made.items()
        }

    def get_env_processors(self) -> tuple[Any, Any]:
        """X's own steps, then the one that edits."""
        before, after = super().get_env_processors()
        step = RealismProcessorStep(**asdict(self.realism))
        return PolicyProcessorPipeline(steps=[*before.steps, step]), after


def make_realistic(kind: str) -> type[EnvConfig]:
    """Register ``realistic_KIND``: the environment type KIND, whose frames are edited.

    It has KIND's settings and one more, ``realism``. Types of other plug-ins can be given to it.

    Args:
        kind: A registered environment type.

    Returns:
        The new type.
    """
    base = EnvConfig.get_choice_class(kind)
    settings = ("realism", RealismConfig, field(default_factory=RealismConfig))
    made = dataclasses.make_dataclass(
        f"Realistic{base.__name__}", [settings], bases=(_RealisticMethods, base), module=__name__
    )
    made.__doc__ = f"The environment type {kind!r}, whose frames are edited."
    globals()[made.__name__] = made  # what goes to another process is found by this name
    EnvConfig.register_subclass(f"{REALISTIC}{kind}")(made)
    return made


def _can_be_realistic(kind: str) -> bool:
    """Whether the frames of a type come from a simulator that LeRobot itself makes."""
    base = EnvConfig.get_choice_class(kind)
    return not issubclass(base, (HubEnvConfig, HILSerlRobotEnvConfig))


for _kind in list(EnvConfig.get_known_choices()):
    if _can_be_realistic(_kind):
        make_realistic(_kind)
