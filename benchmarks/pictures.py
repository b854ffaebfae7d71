"""The README's pictures: raw | edited | twin, and one frame in the looks of many labs.

    python benchmarks/pictures.py

The same seeds every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image

from spie_robo.editor import Editor
from spie_robo.envs import ENV_IDS
from spie_robo.envs.experts import make_expert
from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.envs.twin import NAMED_STYLES, TwinRenderer
from spie_robo.types import RGB, Frame

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
STEPS = 8
SCALE = 2
EPISODES = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--editor", default="embedded")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    editor, renderer, sampler = (
        Editor.from_pretrained(options.editor),
        TwinRenderer(16),
        SceneSampler(),
    )
    rows = []
    for offset, (env_id, style) in enumerate(zip(ENV_IDS, NAMED_STYLES.values(), strict=True)):
        env = gymnasium.make(env_id, distractors=3)
        observation, info = env.reset(seed=options.seed + offset)
        expert = make_expert(env)
        for _ in range(STEPS if env_id != "SpieRobo/Reach-v0" else 1):
            observation, _, _, _, info = env.step(expert.act(observation))
        other = sampler.sample(9000 + offset)
        reference = renderer.render(other.state, other.state.cameras[0].name, style, seed=1)
        row = []
        for camera in ("front", "wrist"):
            frame = Frame(observation[camera], camera, info["geometry"][camera])
            edit = editor.edit([frame], [reference], None, [options.seed])[0]
            twin = renderer.render(env.unwrapped.scene_state(), camera, style, sensor_noise=False)  # type: ignore[attr-defined]
            row += [frame.rgb, edit.rgb, twin]
        rows.append(np.hstack([*row, reference]))
        env.close()
    _save(np.vstack(rows), IMAGES / "raw_edited_twin.png")
    size = rows[0].shape[0]
    before_after = np.hstack([row[:, : 2 * size] for row in rows])
    _save(before_after, IMAGES / "before_after.png")
    _save(many_labs(options.seed), IMAGES / "many_labs.png")


def many_labs(seed: int) -> RGB:
    """A frame of each camera, raw and as nine episodes would see it with ``embedded-labs``."""
    env = gymnasium.make("SpieRobo/Push-v0", distractors=3)
    observation, info = env.reset(seed=seed)
    expert = make_expert(env)
    for _ in range(STEPS):
        observation, _, _, _, info = env.step(expert.act(observation))
    env.close()
    editor = Editor.from_pretrained("embedded-labs")
    rows = []
    for camera in ("front", "wrist"):
        frame = Frame(observation[camera], camera, info["geometry"][camera])
        edits = editor.edit([frame] * EPISODES, seeds=range(EPISODES))
        rows.append(np.hstack([frame.rgb, *(edit.rgb for edit in edits)]))
    return np.vstack(rows)


def _save(image: RGB, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = image.shape[:2]
    Image.fromarray(image).resize((width * SCALE, height * SCALE), Image.Resampling.BICUBIC).save(
        path
    )
    print(path)


if __name__ == "__main__":
    main()
