"""Photos of a photoreal twin's lab, as a user would take some of a real one."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image

from spie_robo.envs.tabletop_env import tabletop
from spie_robo.envs.twin import Style, TwinWrapper

PHOTOS = 5


def photograph(style: str | Style, folder: Path) -> None:
    """Five photos of Push scenes that no demonstration has, unless the folder has them."""
    if len(list(folder.glob("*.png"))) == PHOTOS:
        return
    folder.mkdir(parents=True, exist_ok=True)
    inner = gymnasium.make("SpieRobo/Push-v0", width=256, height=256, distractors=3)
    env = TwinWrapper(inner, style, cameras=("front",), samples=16)
    for number in range(PHOTOS):
        observation, _ = env.reset(seed=2_000_000 + number)
        for _ in range(3 * number):
            tabletop(env).advance(env.action_space.sample())
        observation = env.step(np.zeros(4, np.float32))[0]
        Image.fromarray(observation["front"]).save(folder / f"photo_{number}.png")
    env.close()
