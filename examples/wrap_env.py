"""Wrap an environment: its camera images look like a lab, everything else stays as it is.

    python examples/wrap_env.py --out wrapped --references my_lab_photos/

Writes one picture a camera: the simulator's frame on the left, the edit on the right.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image

import spie_robo.envs  # noqa: F401 - registers the SpieRobo environments
from spie_robo import Editor, RealismWrapper


def main(
    out: Path = Path("wrapped"),
    env_id: str = "SpieRobo/Push-v0",
    editor: str = "embedded",
    references: Path | None = None,
    steps: int = 10,
    seed: int = 0,
) -> None:
    """Step an edited environment and save what its cameras see, before and after.

    Args:
        out: Folder for the pictures.
        env_id: Any Gymnasium environment with camera images in its observations.
        editor: "embedded", an adapter folder of `spie-robo train`, or a Hub id.
        references: Folder of photos of your lab; without it the editor uses its own.
        steps: Steps to take at most.
        seed: Of the environment and of the look.
    """
    env = RealismWrapper(
        gym.make(env_id),
        editor=Editor.from_pretrained(editor),
        references=references,
    )

    # From here on it is an ordinary environment: the same spaces, rewards and terminations.
    _, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    accepted = edited = 0
    for _ in range(steps):
        action = env.action_space.sample()  # or your policy's, from the edited images
        _, _, terminated, truncated, info = env.step(action)
        accepted += sum(edit.edited for edit in info["realism"].values())
        edited += len(info["realism"])
        if terminated or truncated:
            break

    # Every edit was checked against depth and segmentation; a rejected one is the raw frame.
    print(f"The guard accepted {accepted} of {edited} edits.")
    out.mkdir(parents=True, exist_ok=True)
    for camera, edit in info["realism"].items():
        picture = out / f"{camera.replace('/', '_')}.png"
        Image.fromarray(np.hstack([info["raw"][camera], edit.rgb])).save(picture)
        print(f"{picture}: left the simulator's frame, right what the policy sees.")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
