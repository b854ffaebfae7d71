"""A plug-in for LeRobot: policies see a simulator's frames as ``spie_robo`` edits them.

``LookSeedEnvs (the look's seed, geometry) -> LeRobot's own steps -> RealismProcessorStep``

LeRobot imports this package when one of its commands starts; the imports below register what it
has.
"""

from __future__ import annotations

from lerobot_env_spie.environments import RealismConfig, SpieRoboEnv, make_realistic
from lerobot_env_spie.look_seed_envs import LookSeedEnvs
from lerobot_env_spie.step import RealismProcessorStep

__all__ = [
    "LookSeedEnvs",
    "RealismConfig",
    "RealismProcessorStep",
    "SpieRoboEnv",
    "make_realistic",
]
