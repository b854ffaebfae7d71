"""Render states of other people's simulators for the guard's calibration, as ``.npz`` files.

Each simulator wants its own packages, so this script runs in its own environment and does not
import ``spie_robo``. The format is that of ``../shared/frames/README.md``.

    pip install mujoco==3.8.1 gymnasium-robotics==1.4.2 panda-gym==3.0.7 gym-aloha==0.1.5
    pip install robosuite==1.5.2 "numpy<2" mujoco==3.8.1     # another environment
    pip install metaworld==3.1.1 mujoco==3.3.0               # a third one
    MUJOCO_GL=egl python benchmarks/guard_states.py fetch --out runs/guard_states
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (128, 256)
Shot = tuple[Any, Any, Any, str, dict[int, str]]
"""Picture, depth in metres, instance ids, camera, names of the ids."""


def _names(model: Any) -> dict[int, str]:
    """Name each geom of a MuJoCo model after its body, or itself where it belongs to the world."""
    import mujoco

    names = {}
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        body_name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, body) or ""
        own_name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ""
        names[geom] = (own_name if body == 0 else body_name or own_name) or f"geom{geom}"
    return names


def _mujoco_shot(
    model: Any, data: Any, camera: Any, name: str, height: int, width: int, option: Any = None
) -> Shot:
    """Draw picture, depth and geom ids; ids are -1 where nothing or no geom is seen."""
    import mujoco

    # The offscreen buffer of a model may be smaller than the picture that is wanted.
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.update_scene(data, camera, *([] if option is None else [option]))
        rgb = renderer.render().copy()
        renderer.enable_depth_rendering()
        depth = renderer.render().copy()
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        ids, kinds = np.moveaxis(renderer.render(), -1, 0)
    ids = np.where(kinds == int(mujoco.mjtObj.mjOBJ_GEOM), ids, -1)
    return rgb, depth, ids, name, _names(model)


def fetch(states: int, seed: int) -> Iterator[tuple[Shot, ...]]:
    """Yield FetchPickAndPlace, FetchPush and FetchSlide through the camera that ``render`` uses."""
    import gymnasium
    import gymnasium_robotics
    import mujoco

    gymnasium.register_envs(gymnasium_robotics)
    envs = [gymnasium.make(f"Fetch{t}-v4").unwrapped for t in ("PickAndPlace", "Push", "Slide")]
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 2.5, 132.0, -14.0
    camera.lookat[:] = (1.3, 0.75, 0.55)
    for number in range(states):
        env = envs[number % len(envs)]
        _drive(env, seed + number, 5 + number)
        yield tuple(_mujoco_shot(env.model, env.data, camera, "pixels", s, s) for s in SIZES)


def metaworld(states: int, seed: int) -> Iterator[tuple[Shot, ...]]:
    """Yield six Meta-World tasks through ``corner2`` as it renders: upside down."""
    import metaworld as package

    tasks = ("pick-place", "drawer-open", "push", "door-open", "button-press-topdown", "reach")
    for number in range(states):
        name = f"{tasks[number % len(tasks)]}-v3"
        benchmark = package.MT1(name, seed=seed + number)
        env = benchmark.train_classes[name]()
        env.set_task(benchmark.train_tasks[0])
        _drive(env, seed + number, 5 + number)
        yield tuple(_mujoco_shot(env.model, env.data, "corner2", name, s, s) for s in SIZES)


def aloha(states: int, seed: int) -> Iterator[tuple[Shot, ...]]:
    """Yield gym-aloha's transfer cube and insertion from above."""
    import gym_aloha  # noqa: F401
    import gymnasium

    envs = [
        gymnasium.make(f"gym_aloha/Aloha{task}-v0", obs_type="pixels").unwrapped
        for task in ("TransferCube", "Insertion")
    ]
    for number in range(states):
        env = envs[number % len(envs)]
        _drive(env, seed + number, 5 + 2 * number)
        physics = env._env.physics
        model, data = physics.model.ptr, physics.data.ptr
        # 4:3, as its observations are; the width is what a size means.
        yield tuple(_mujoco_shot(model, data, "top", "top", s * 3 // 4, s) for s in SIZES)


def robosuite(task: str) -> Callable[[int, int], Iterator[tuple[Shot, ...]]]:
    """Make the generator of one robosuite task with the Panda, from two cameras."""

    def shots(states: int, seed: int) -> Iterator[tuple[Shot, ...]]:
        import mujoco
        import robosuite as suite

        env = suite.make(
            task, robots="Panda", has_renderer=False, use_camera_obs=False,
            has_offscreen_renderer=False, horizon=10_000,
        )  # fmt: skip
        visible = mujoco.MjvOption()
        visible.geomgroup[0] = 0  # its collision shapes, which its own pictures leave out too
        generator = np.random.default_rng(seed)
        for number in range(states):
            env.reset()
            for _ in range(5 + number):
                env.step(generator.uniform(-1, 1, env.action_dim))
            camera = "robot0_eye_in_hand" if number % 4 == 3 else "agentview"
            model, data = env.sim.model._model, env.sim.data._data
            # Its "instance" ids count from 1; table, floor, walls and background are all 0.
            of_geom = env.model.geom_ids_to_instances
            number_of = {name: i for i, name in enumerate(env.model.instances_to_ids, 1)}
            shots = []
            for size in SIZES:
                rgb, depth, ids, _, _ = _mujoco_shot(
                    model, data, camera, camera, size, size, visible
                )
                instances = np.zeros_like(ids)
                for geom in np.unique(ids[ids >= 0]).tolist():
                    instances[ids == geom] = number_of.get(of_geom.get(geom, ""), 0)
                names = {i: name for name, i in number_of.items()}
                shots.append((rgb, depth, instances, camera, names))
            yield tuple(shots)

    return shots


def panda_gym(states: int, seed: int) -> Iterator[tuple[Shot, ...]]:
    """Yield panda-gym's PickAndPlace, Push and Stack through the camera that ``render`` uses."""
    import gymnasium
    import panda_gym as package  # noqa: F401

    for number in range(states):
        task = ("PickAndPlace", "Push", "Stack")[number % 3]
        env = gymnasium.make(f"Panda{task}-v3", render_mode="rgb_array").unwrapped
        _drive(env, seed + number, 5 + number)
        yield tuple(_bullet_shot(env, f"Panda{task}-v3", s) for s in SIZES)
        env.close()


def _bullet_shot(env: Any, camera: str, size: int) -> Shot:
    """Draw panda-gym's own view with depth in metres and body ids."""
    client = env.sim.physics_client
    near, far = 0.1, 100.0
    view = client.computeViewMatrixFromYawPitchRoll(
        cameraTargetPosition=env.render_target_position, distance=env.render_distance,
        yaw=env.render_yaw, pitch=env.render_pitch, roll=env.render_roll, upAxisIndex=2,
    )  # fmt: skip
    projection = client.computeProjectionMatrixFOV(60.0, 1.0, near, far)
    _, _, rgba, buffer, ids = client.getCameraImage(
        size, size, view, projection, shadow=True, renderer=client.ER_TINY_RENDERER
    )
    depth = far * near / (far - (far - near) * np.reshape(buffer, (size, size)))
    rgb = np.reshape(rgba, (size, size, 4))[..., :3]
    names = {int(v): k for k, v in env.sim._bodies_idx.items()}
    return rgb, depth, np.reshape(ids, (size, size)), camera, names


def _drive(env: Any, seed: int, steps: int) -> None:
    """Reset an environment and act at random."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        env.step(env.action_space.sample())


SIMULATORS: dict[str, Callable[[int, int], Iterator[tuple[Shot, ...]]]] = {
    "fetch": fetch,
    "metaworld": metaworld,
    "aloha": aloha,
    "panda_gym": panda_gym,
    "robosuite_Lift": robosuite("Lift"),
    "robosuite_PickPlace": robosuite("PickPlace"),
}


def main() -> None:
    """Write one file a simulator and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("simulators", nargs="+", choices=sorted(SIMULATORS))
    parser.add_argument("--states", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/guard_states"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for simulator in arguments.simulators:
        shots = list(SIMULATORS[simulator](arguments.states, arguments.seed))
        for column, size in enumerate(SIZES):
            arrays: dict[str, Any] = {"n": np.array(len(shots))}
            for i, of_sizes in enumerate(shots):
                rgb, depth, ids, camera, names = of_sizes[column]
                arrays[f"{i}/rgb"] = np.ascontiguousarray(rgb, np.uint8)
                arrays[f"{i}/depth"] = np.ascontiguousarray(depth, np.float32)
                arrays[f"{i}/seg"] = np.ascontiguousarray(ids, np.int32)
                meta = json.dumps({"camera": camera, "names": names})
                arrays[f"{i}/meta"] = np.array(meta)
            file = arguments.out / f"{simulator}_{size}.npz"
            np.savez_compressed(file, **arrays)
            print(f"{file}: {len(shots)} states")


if __name__ == "__main__":
    main()
