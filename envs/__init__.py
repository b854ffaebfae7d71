"""Tabletop manipulation environments in PyBullet, their experts, and the photoreal twin.

Importing this package registers ``SpieRobo/Reach-v0``, ``SpieRobo/Push-v0`` and
``SpieRobo/PickPlace-v0`` with Gymnasium.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

_TASKS = {
    "Reach": ("spie_robo.envs.reach:ReachEnv", 60),
    "Push": ("spie_robo.envs.push:PushEnv", 150),
    "PickPlace": ("spie_robo.envs.pick_place:PickPlaceEnv", 150),
}

ENV_IDS = tuple(f"SpieRobo/{name}-v0" for name in _TASKS)

for _name, (_entry_point, _steps) in _TASKS.items():
    register(f"SpieRobo/{_name}-v0", entry_point=_entry_point, max_episode_steps=_steps)
