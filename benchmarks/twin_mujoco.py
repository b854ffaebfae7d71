"""Do the twin's silhouettes lie on MuJoCo's own, on environments that others made?

Twenty states of each environment: random actions, then MuJoCo's segmentation against the twin's
geometry, from the camera that the environment renders or a random one around it. The packages do
not live together (Meta-World pins MuJoCo 3.3.0, robosuite needs NumPy 1), so run it in an
environment of each::

    MUJOCO_GL=egl python benchmarks/twin_mujoco.py fetch kitchen aloha
    MUJOCO_GL=egl python benchmarks/twin_mujoco.py metaworld
    MUJOCO_GL=egl python benchmarks/twin_mujoco.py robosuite
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import harness
import mujoco
import numpy as np
from PIL import Image

from spie_robo.envs.twin import MujocoShapes, TwinRenderer, find_mujoco, find_style
from spie_robo.envs.twin.mujoco_alignment import compare_silhouettes, mujoco_instances
from spie_robo.envs.twin.sources import MujocoSimulation

SEED = 0
STEPS_BETWEEN = 4


@dataclass(frozen=True)
class View:
    """A free camera, as Gymnasium's environments set theirs.

    Attributes:
        lookat: Metres.
        distance: Metres.
        azimuth: Degrees.
        elevation: Degrees.
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float

    def camera(self) -> mujoco.MjvCamera:
        """For MuJoCo."""
        camera = mujoco.MjvCamera()
        camera.lookat[:] = self.lookat
        camera.distance, camera.azimuth = self.distance, self.azimuth
        camera.elevation = self.elevation
        return camera


@dataclass(frozen=True)
class Suite:
    """One environment.

    Attributes:
        make: Makes it; it has reset and step, and find_mujoco finds its simulation.
        cameras: Cameras of the model to look through, or views around a point.
        act: Takes a random action.
    """

    make: Callable[[], Any]
    cameras: tuple[str | View, ...]
    act: Callable[[Any], object]


def main() -> None:
    """Measure the suites named, write the figures, and a sheet of pictures each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="+", choices=sorted(SUITES))
    parser.add_argument("--states", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", help="folder for sheets of raw frames and twins")
    options = parser.parse_args()
    harness.limit_threads(1)
    for name in options.suites:
        measure(name, SUITES[name], options)


def measure(name: str, suite: Suite, options: argparse.Namespace) -> None:
    """One suite: IoU of each role over its states."""
    found: dict[str, list[float]] = {}
    rows = []
    env = suite.make()
    if hasattr(env, "action_space"):
        env.action_space.seed(SEED)
    size = options.size
    for index, (simulation, camera) in enumerate(states(env, suite, options.states)):
        model, data, option = simulation.model, simulation.data, simulation.option
        state = MujocoShapes(model, data, option=option).state([camera], size, size)
        simulator = mujoco_instances(model, data, camera, size, size, option)
        for silhouette in compare_silhouettes(state, simulator):
            found.setdefault(silhouette.group, []).append(silhouette.iou)
        if options.pictures and index % 5 == 0:
            rows.append(picture(simulation, camera, state, size))
    if rows:
        Image.fromarray(np.concatenate(rows)).save(f"{options.pictures}/twin_{name}.png")
    lines = ["| environment | role | states | median IoU | lowest |", "|---|---|---|---|---|"]
    for group, values in found.items():
        lines.append(
            f"| {name} | {group} | {len(values)} | {np.median(values):.4f} | {min(values):.4f} |"
        )
    results = {group: {**harness.spread(v), "lowest": min(v)} for group, v in found.items()}
    results["mujoco"] = mujoco.__version__
    harness.report(f"twin_mujoco_{name}", SEED, results, "\n".join(lines))


def states(env: Any, suite: Suite, count: int) -> Iterator[tuple[MujocoSimulation, Any]]:
    """The simulation and a camera after some random actions; each fifth state is a new episode."""
    for index in range(count):
        if index % 5 == 0:
            reset(env, SEED + index)
        for _ in range(STEPS_BETWEEN):
            suite.act(env)
        simulation = find_mujoco(env)
        mujoco.mj_forward(simulation.model, simulation.data)
        chosen = suite.cameras[index % len(suite.cameras)]
        camera = chosen.camera() if isinstance(chosen, View) else chosen
        yield simulation, camera


def reset(env: Any, seed: int) -> None:
    """Reset with a seed where the environment takes one."""
    try:
        env.reset(seed=seed)
    except TypeError:
        env.reset()


def picture(simulation: MujocoSimulation, camera: Any, state: Any, size: int) -> Any:
    """The raw frame beside its twin in two styles."""
    renderer = mujoco.Renderer(simulation.model, size, size)
    renderer.update_scene(simulation.data, camera=camera, scene_option=simulation.option)
    raw = renderer.render()
    renderer.close()
    twins = [
        TwinRenderer(4).render(
            state, state.cameras[0].name, find_style(style), sensor_noise=False, metering=True
        )
        for style in ("oak-lab", "lab-7")
    ]
    return np.concatenate([raw, *twins], axis=1)


def _gymnasium(env_id: str, package: str) -> Callable[[], Any]:
    def make() -> Any:
        module = __import__(package)
        gym.register_envs(module)
        return gym.make(env_id).unwrapped

    return make


def _metaworld() -> Any:
    import metaworld

    env = metaworld.MT1("pick-place-v3", seed=SEED)
    task_env: Any = env.train_classes["pick-place-v3"]()
    task_env.set_task(env.train_tasks[0])
    return task_env


def _robosuite() -> Any:
    import robosuite

    np.random.seed(SEED)  # robosuite draws from NumPy's global generator
    return robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False,
        use_camera_obs=False,
    )  # fmt: skip


def _sampled(env: Any) -> object:
    return env.step(env.action_space.sample())


def _within_spec(env: Any) -> object:
    low, high = env.action_spec
    return env.step(np.random.default_rng(SEED).uniform(low, high))


_FETCH_VIEWS = (
    View((1.3, 0.75, 0.55), 2.5, 132, -14),  # the environment's own
    View((1.3, 0.75, 0.45), 1.2, 170, -40),
    View((1.3, 0.75, 0.45), 1.0, 80, -25),
)
_KITCHEN_VIEWS = (
    View((-0.2, 0.5, 2.0), 2.2, 70, -35),  # the environment's own
    View((-0.2, 0.5, 1.9), 1.4, 100, -20),
    View((-0.2, 0.5, 1.9), 1.8, 55, -50),
)

SUITES = {
    "fetch": Suite(
        _gymnasium("FetchPickAndPlace-v4", "gymnasium_robotics"), _FETCH_VIEWS, _sampled
    ),
    "kitchen": Suite(
        _gymnasium("FrankaKitchen-v1", "gymnasium_robotics"), _KITCHEN_VIEWS, _sampled
    ),
    "aloha": Suite(
        _gymnasium("gym_aloha/AlohaTransferCube-v0", "gym_aloha"), ("top", "angle"), _sampled
    ),
    "metaworld": Suite(
        _metaworld, ("corner", "corner2", "corner3", "topview", "behindGripper"), _sampled
    ),
    "robosuite": Suite(
        _robosuite, ("frontview", "agentview", "sideview", "robot0_eye_in_hand"), _within_spec
    ),
}


if __name__ == "__main__":
    main()
