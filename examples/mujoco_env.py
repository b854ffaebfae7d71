"""Another simulator: MuJoCo's depth and segmentation are the geometry that edits are held to.

pip install mujoco; python examples/mujoco_env.py --out mujoco.png   (MUJOCO_GL: egl, osmesa, glfw)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image

from spie_robo import Geometry, RealismWrapper

SCENE = Path(__file__).with_name("mujoco_scene.xml")


class PushCube(gym.Env[Any, Any]):
    """A gripper slides along a table and pushes a cube; the action is its speed in m/s."""

    def __init__(self, side: int = 128) -> None:
        """Load the scene."""
        library = os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
        try:
            import mujoco  # type: ignore[import-untyped]

            self.model = mujoco.MjModel.from_xml_path(str(SCENE))
            self.renderer = mujoco.Renderer(self.model, side, side)
        except Exception as error:  # each GL library fails in its own way
            advice = "Try pip install mujoco, MUJOCO_GL=egl (libegl1) or osmesa (libosmesa6)."
            raise SystemExit(f"MuJoCo cannot render with {library}: {error!r}. {advice}") from error
        self.mujoco, self.data = mujoco, mujoco.MjData(self.model)
        self.observation_space = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = gym.spaces.Box(-0.5, 0.5, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Put everything back in its place."""
        super().reset(seed=seed)
        self.mujoco.mj_resetData(self.model, self.data)
        self.mujoco.mj_forward(self.model, self.data)
        return self.look()

    def step(self, action: Any) -> Any:
        """Move for a twentieth of a second; the reward is how far right the cube is, in m."""
        self.data.ctrl[:] = action
        self.mujoco.mj_step(self.model, self.data, nstep=25)
        image, info = self.look()
        return image, float(self.data.geom("cube").xpos[0]), False, False, info

    def look(self) -> tuple[Any, dict[str, Any]]:
        """The image, and its geometry where the wrapper looks for it."""
        self.renderer.update_scene(self.data, camera="front")
        image = self.renderer.render()
        self.renderer.enable_depth_rendering()  # metres along the optical axis
        depth = self.renderer.render()
        self.renderer.enable_segmentation_rendering()  # the geom of each pixel, -1 for none
        geoms = self.renderer.render()[..., 0]
        self.renderer.disable_segmentation_rendering()
        names = {geom: self.model.geom(geom).name for geom in range(self.model.ngeom)}
        return image, {"geometry": {"camera": Geometry(depth, geoms, names)}}


def main(out: Path = Path("mujoco.png"), steps: int = 10) -> None:
    """Push a cube, and save the last frame, before and after its edit, as a picture."""
    env = RealismWrapper(PushCube(), editor="embedded")
    env.reset(seed=0)
    infos = [env.step(np.array([0.3], np.float32))[4] for _ in range(steps)]
    edits = [info["realism"]["camera"] for info in infos]
    print(f"The guard accepted {sum(edit.edited for edit in edits)} of {steps} edits.")
    Image.fromarray(np.hstack([infos[-1]["raw"]["camera"], edits[-1].rgb])).save(out)


if __name__ == "__main__":
    tyro.cli(main)
