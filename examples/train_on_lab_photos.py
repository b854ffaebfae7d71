"""Post-train the editor on about five photos of your lab, and look at an edit before and after.

    python examples/train_on_lab_photos.py my_lab_photos/ --out lab

Much the same on the command line: spie-robo train --references my_lab_photos/ --frames lab/sim.zarr
--out lab/editor, whose ten epochs of more frames take three minutes on an idle core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image

import spie_robo.envs  # noqa: F401 - registers the SpieRobo environments
from spie_robo import Editor, Frame
from spie_robo.commands.record import RecordCommand, record
from spie_robo.training.config import RolloutConfig, TrainConfig
from spie_robo.training.run import post_train


def main(
    photos: Annotated[Path, tyro.conf.Positional],
    out: Path = Path("lab"),
    env_id: str = "SpieRobo/Push-v0",
    epochs: int = 10,
    inputs: int = 8,
    edits: int = 2,
    episodes: int = 4,
) -> None:
    """Train an adapter on photos of a lab.

    Args:
        photos: Folder of about five photos of the place that frames should look like.
        out: Folder for the frames, the adapter and the picture.
        env_id: The environment whose frames are to be edited.
        epochs: Times that edits are made, scored and learned from.
        inputs: Frames edited in each epoch.
        edits: Edits of each frame, each from its own noise.
        episodes: Episodes recorded for frames to train on.
    """
    # Frames of the simulator, with the depth and segmentation that edits are scored against.
    frames = out / "sim.zarr"
    if not frames.exists():
        record(RecordCommand(env=env_id, episodes=episodes, out=frames, max_steps=40))

    # Judges score every edit: is the geometry still there, does it look like the photos? With
    # resume=True a run that was cut off goes on, to the same result.
    adapter = out / "editor"
    config = TrainConfig(
        epochs=epochs,
        frames=2 * inputs,
        preview=min(8, inputs),
        rollout=RolloutConfig(inputs=inputs, edits=edits),
    )
    print(f"{post_train(photos, frames, adapter, config, resume=False)}.")

    # The adapter is an editor like any other; the photos travel with it.
    env = gym.make(env_id)
    observation, info = env.reset(seed=100)
    frame = Frame(observation["front"], "front", info["geometry"]["front"])
    before = Editor.from_pretrained("embedded").edit([frame], references=photos, seeds=[0])[0]
    after = Editor.from_pretrained(str(adapter)).edit([frame], seeds=[0])[0]
    picture = out / "before_after.png"
    Image.fromarray(np.hstack([frame.rgb, before.rgb, after.rgb])).save(picture)
    print(f"{picture}: the simulator's frame, the base editor's edit, your editor's edit.")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
