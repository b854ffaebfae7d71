"""Export robosuite frames with their geometry, without spie_robo: for an environment of its own.

pip install robosuite==1.5.2 mujoco==3.8.1 zarr; python examples/export_frames.py lift.zarr
Then, where spie_robo is installed: spie-robo convert lift.zarr lab.zarr --editor embedded
"""

import sys

import mujoco
import numpy as np
import robosuite
import zarr
from robosuite.utils.camera_utils import get_camera_extrinsic_matrix, get_camera_intrinsic_matrix

TASK, CAMERA, SIDE, EPISODES, STEPS = "Lift", "agentview", 128, 2, 10


def look(sim, renderer):
    """Depth in metres and the body of each pixel, -1 for none; upright, as the picture will be."""
    renderer.update_scene(sim.data._data, CAMERA, sim._render_context_offscreen.vopt)
    for geom in renderer.scene.geoms[: renderer.scene.ngeom]:
        geom.mat[:] = 0 if geom.rgba[3] < 0.2 else geom.mat  # helpers that nobody sees
    renderer.enable_depth_rendering()
    depth = renderer.render()
    renderer.enable_segmentation_rendering()
    geoms, kinds = np.moveaxis(renderer.render(), -1, 0)
    shown = kinds == int(mujoco.mjtObj.mjOBJ_GEOM)
    bodies = np.where(shown, sim.model._model.geom_bodyid[np.where(shown, geoms, 0)], -1)
    return np.where(shown, depth, np.nan).astype(np.float32), bodies.astype(np.int32)


def main(path):
    """Act at random, and write every frame."""
    size = {"camera_names": CAMERA, "camera_heights": SIDE, "camera_widths": SIDE}
    env = robosuite.make(TASK, robots="Panda", has_renderer=False, hard_reset=False, **size)
    rows, model, ends = {}, env.sim.model._model, []
    renderer = mujoco.Renderer(model, SIDE, SIDE)
    for observation in (env.reset() for _ in range(EPISODES)):
        for _ in range(STEPS):
            depth, bodies = look(env.sim, renderer)
            pose = get_camera_extrinsic_matrix(env.sim, CAMERA)  # camera to world, OpenCV's axes
            row = {"rgb": observation[f"{CAMERA}_image"][::-1], "depth": depth}  # bottom row first
            row |= {"segmentation": bodies, "extrinsics": np.linalg.inv(pose).astype(np.float32)}
            row = {f"{CAMERA}_{name}": value for name, value in row.items()}
            row["action"] = np.random.uniform(*env.action_spec).astype(np.float32)
            observation, row["reward"], _, _ = env.step(row["action"])
            _ = [rows.setdefault(name, []).append(value) for name, value in row.items()]
        ends.append(len(rows["action"]))
    lens = get_camera_intrinsic_matrix(env.sim, CAMERA, SIDE, SIDE)
    names = {"-1": "background"} | {str(i): model.body(i).name for i in range(model.nbody)}
    about = {"env_id": TASK, "env_spec": {}, "editor_id": "", "instruction": "", "provenance": {}}
    about["cameras"] = {CAMERA: {"intrinsics": lens.tolist(), "names": names}}
    root = zarr.open_group(path, mode="w", zarr_format=2)
    arrays = {f"data/{name}": np.stack(values) for name, values in rows.items()}
    for name, array in {**arrays, "meta/episode_ends": np.array(ends, np.int64)}.items():
        root.create_array(name, data=array, chunks=(len(ends), *array.shape[1:]))
    root.attrs["spie_robo"] = {"schema_version": 1, "metadata": about, "seeds": [-1] * len(ends)}


main(sys.argv[1])
