"""One simulator, measured in its own environment: what benchmarks/simulators.py runs there.

PYTHONPATH is the repository, where this package is not installed in that environment.

python benchmarks/simulator_cases.py NAME --out FILE.json [--frames N] [--edits N] [--seed N]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AddRenderObservation

from spie_robo.simulators import best_orientation, find_simulator
from spie_robo.simulators.pinhole import project_points, world_points
from spie_robo.simulators.views import CameraView, ViewRequest
from spie_robo.types import EditResult, Frame
from spie_robo.wrappers.cameras import find_cameras, read_value
from spie_robo.wrappers.geometry_sources import observed_cameras

ROOT = Path(__file__).resolve().parent.parent
SIDE = 128
MAX_STEPS = 10


@dataclass(frozen=True)
class Case:
    """One environment of a simulator.

    Attributes:
        name: For the table.
        make: Makes the env.
        plane: Name of a horizontal surface in the segmentation.
        height: Its height in metres; None: of whatever its pixels have in common.
        points: ``points(env) -> {name in the segmentation: (x, y, z)}``, known positions.
        percentile: Which of the surface's heights is its top.
    """

    name: str
    make: Callable[[], gym.Env[Any, Any]]
    plane: str
    height: float
    points: Callable[[Any], dict[str, Any]]
    percentile: float = 50.0


def render_observation(env_id: str, **options: Any) -> gym.Env[Any, Any]:
    """An env whose observation is what it renders."""
    return AddRenderObservation(gym.make(env_id, render_mode="rgb_array", **options))


def mujoco_bodies(*names: str) -> Callable[[Any], dict[str, Any]]:
    """Positions of bodies of an env that keeps MuJoCo's data in ``data``."""
    return lambda env: {name: env.unwrapped.data.body(name).xpos for name in names}


def fetch_cases() -> list[Case]:
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    size = {"width": SIDE, "height": SIDE}
    return [
        Case(
            task,
            lambda task=task: render_observation(task, **size),
            "table0",
            0.4,
            mujoco_bodies("object0"),
            95.0,
        )
        for task in ("FetchPickAndPlace-v4", "FetchPush-v4")
    ]


def metaworld_cases() -> list[Case]:
    import metaworld  # noqa: F401  # registers its envs

    def make(task: str, camera: str) -> gym.Env[Any, Any]:
        options = {"env_name": task, "camera_name": camera, "width": SIDE, "height": SIDE}
        return render_observation("Meta-World/MT1", **options)

    pairs = [("pick-place-v3", c) for c in ("corner", "corner2", "corner3", "corner4", "topview")]
    return [
        Case(
            f"{task} {camera}",
            lambda task=task, camera=camera: make(task, camera),
            "tablelink",
            0.0,
            mujoco_bodies("obj"),
        )
        for task, camera in pairs
    ]


def robosuite_cases() -> list[Case]:
    import robosuite
    from robosuite.wrappers import GymWrapper

    def make(task: str) -> gym.Env[Any, Any]:
        cameras = ["agentview", "robot0_eye_in_hand"]
        size = {"camera_heights": SIDE, "camera_widths": SIDE}
        env = robosuite.make(task, robots="Panda", has_renderer=False, camera_names=cameras, **size)
        return GymWrapper(env, keys=[f"{c}_image" for c in cameras], flatten_obs=False)

    def points(name: str) -> Callable[[Any], dict[str, Any]]:
        return lambda env: {name: env.sim.data._data.body(name).xpos}

    return [
        Case("Lift", lambda: make("Lift"), "table", 0.8, points("cube_main")),
        Case("PickPlace", lambda: make("PickPlace"), "floor", 0.0, points("Can_main")),
    ]


def aloha_cases() -> list[Case]:
    import gym_aloha  # noqa: F401  # registers its envs

    def points(env: Any) -> dict[str, Any]:
        return {"box": env.unwrapped._env.physics.named.data.xpos["box"]}

    def make() -> gym.Env[Any, Any]:
        return gym.make("gym_aloha/AlohaTransferCube-v0", obs_type="pixels_agent_pos")

    return [Case("AlohaTransferCube-v0", make, "table", 0.0, points)]


def panda_cases() -> list[Case]:
    import panda_gym  # noqa: F401  # registers its envs

    size = {"render_width": SIDE, "render_height": SIDE}

    def points(name: str) -> Callable[[Any], dict[str, Any]]:
        return lambda env: {name: env.unwrapped.sim.get_base_position(name)}

    tasks = (("PandaPickAndPlace-v3", "object"), ("PandaStack-v3", "object1"))
    return [
        Case(
            task,
            lambda task=task: render_observation(task, **size),
            "table",
            0.0,
            points(body),
            95.0,
        )
        for task, body in tasks
    ]


def maniskill_cases() -> list[Case]:
    import mani_skill.envs  # noqa: F401  # registers its envs

    def make() -> gym.Env[Any, Any]:
        return gym.make(
            "PickCube-v1",
            obs_mode="rgb+depth+segmentation",
            num_envs=1,
            sim_backend="cpu",
            render_backend="cpu",
        )

    def points(env: Any) -> dict[str, Any]:
        return {"cube": env.unwrapped.cube.pose.p[0].numpy()}

    return [Case("PickCube-v1", make, "table-workspace", 0.0, points)]


def own_cases() -> list[Case]:
    """This package's own tasks, for comparison; their geometry comes with the info."""
    import spie_robo.envs  # noqa: F401  # registers its envs

    return [
        Case(task, lambda task=task: gym.make(task), "table", 0.0, lambda env: {})
        for task in ("SpieRobo/Push-v0", "SpieRobo/PickPlace-v0")
    ]


CASES: dict[str, Callable[[], list[Case]]] = {
    "own": own_cases,
    "fetch": fetch_cases,
    "metaworld": metaworld_cases,
    "robosuite": robosuite_cases,
    "aloha": aloha_cases,
    "panda_gym": panda_cases,
    "maniskill": maniskill_cases,
}

CONTROLS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "x0.85": ("harmless", lambda image: image * 0.85),
    "x0.6": ("harmless", lambda image: image * 0.6),
    "x1.4": ("harmless", lambda image: image * 1.4),
    "warm": ("harmless", lambda image: image * (1.1, 1.0, 0.85)),
    "gamma 0.7": ("harmless", lambda image: 255 * (image / 255) ** 0.7),
    "shift 3 %": ("harmful", lambda image: np.roll(image, round(0.03 * image.shape[1]), axis=1)),
    "upside down": ("harmful", lambda image: image[::-1]),
}
"""What is done to a raw frame, and whether a guard may accept it."""


@dataclass(frozen=True)
class Seen:
    """One camera at one moment.

    Attributes:
        picture: As the env gives it.
        view: What the simulator says of it.
        frame: Upright, with its geometry.
    """

    picture: np.ndarray
    view: CameraView
    frame: Frame


def looks(env: gym.Env[Any, Any], seeds: Sequence[int]) -> Iterator[dict[str, Seen]]:
    """What every camera sees at the start of some episodes and a few steps later."""
    cameras = find_cameras(env.observation_space)
    simulator = find_simulator(env)
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(seed % MAX_STEPS):
            observation, _, _, _, info = env.step(env.action_space.sample())
        request = ViewRequest(env, observation, info, observed_cameras(cameras))
        if simulator is None:
            views = {name: CameraView(known) for name, known in info["geometry"].items()}
        else:
            views = simulator.views(request)
        found = {}
        for camera in cameras:
            picture, view = camera.image(read_value(observation, camera)), views[camera.name]
            upright = Frame(view.orientation.turn(picture), camera.name, view.geometry)
            found[camera.name] = Seen(picture, view, upright)
        yield found
    if hasattr(simulator, "close"):
        simulator.close()


def pixels_of(seen: Seen, name: str) -> np.ndarray:
    names = seen.view.geometry.names
    wanted = [number for number, known in names.items() if known == name]
    return np.isin(seen.view.geometry.segmentation, wanted)


def point_hits(seen: Seen, points: dict[str, Any]) -> list[bool]:
    """Whether known positions project onto their own pixels, where these can be seen."""
    hits = []
    for name, position in points.items():
        mask = pixels_of(seen, name)
        column, row, _ = project_points([position], seen.view.geometry)[0]
        height, width = mask.shape
        if mask.sum() >= 12 and 1 <= column < width - 1 and 1 <= row < height - 1:
            # Something else may stand before its middle: then a neighbour's pixel is its own.
            near = mask[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2]
            hits.append(bool(near.any()))
    return hits


def plane_error(seen: Seen, case: Case) -> float:
    """Distance in metres of a surface from where it is known to be; NaN if it is not seen."""
    mask = pixels_of(seen, case.plane)
    if mask.sum() < 100:
        return float("nan")
    heights = world_points(seen.view.geometry)[mask][:, 2]
    return abs(float(np.nanpercentile(heights, case.percentile)) - case.height)


def controls(frames: Sequence[Frame]) -> dict[str, dict[str, Any]]:
    """How many raw frames the default guard accepts after each harmless or harmful change."""
    from spie_robo.guard import GeometryGuard

    guard, found = GeometryGuard(), {}
    for name, (kind, change) in CONTROLS.items():
        changed = [change(f.rgb.astype(np.float64)).clip(0, 255).astype(np.uint8) for f in frames]
        edits = [EditResult(np.ascontiguousarray(c), 0, "", "control", 0) for c in changed]
        verdicts = guard.judge_batch(frames, edits)
        accepted = sum(verdict.accepted for verdict in verdicts)
        found[name] = {"kind": kind, "accepted": accepted, "of": len(frames)}
    return found


def edits(frames: Sequence[Frame], editor: str, pictures: Path | None) -> dict[str, Any]:
    """How many edits of the embedded editor the default guard accepts, and why not."""
    from PIL import Image

    from spie_robo.editor import Editor
    from spie_robo.guard import GeometryGuard

    made = Editor.from_pretrained(editor)
    results = made.edit(frames, seeds=list(range(len(frames))))
    verdicts = GeometryGuard().judge_batch(frames, results)
    if pictures is not None:
        rows = [np.hstack([f.rgb, r.rgb]) for f, r in zip(frames, results, strict=True)]
        smallest = min(row.shape[0] for row in rows)
        Image.fromarray(np.vstack([row[:smallest, : 2 * smallest] for row in rows])).save(pictures)
    reasons = [verdict.reason for verdict in verdicts if not verdict.accepted]
    return {"accepted": sum(v.accepted for v in verdicts), "of": len(frames), "reasons": reasons}


def measure_case(case: Case, seeds: Sequence[int]) -> tuple[dict[str, Any], list[Frame]]:
    """One environment: geometry of each of its cameras, and the frames for the guard."""
    env = case.make()
    cameras: dict[str, dict[str, list[Any]]] = {}
    frames = []
    for moment in looks(env, seeds):
        for name, seen in moment.items():
            columns = cameras.setdefault(name, {"hits": [], "plane": [], "turn": [], "right": []})
            columns["hits"] += point_hits(seen, case.points(env))
            columns["plane"].append(plane_error(seen, case))
            columns["turn"].append(seen.view.orientation.name)
            best = best_orientation(seen.picture, seen.view.geometry)
            columns["right"].append(best == seen.view.orientation)
            frames.append(seen.frame)
    env.close()
    found = {}
    for name, columns in cameras.items():
        planes = [1000 * error for error in columns["plane"] if not np.isnan(error)]
        found[f"{case.name} / {name}"] = {
            "orientation": sorted(set(columns["turn"])),
            "orientation_right": int(sum(columns["right"])),
            "pictures": len(columns["right"]),
            "points_hit": int(sum(columns["hits"])),
            "points": len(columns["hits"]),
            "plane_mm_worst": max(planes) if planes else None,
            "planes": len(planes),
        }
    return found, frames


def run_guide(name: str) -> str:
    """Run the Python blocks of a simulator's page; what they printed last."""
    page = ROOT / "docs" / "guides" / "simulators" / f"{name}.md"
    if not page.is_file():
        return "no page"
    printed, namespace = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
            exec(compile(block, str(page), "exec"), namespace)
    return (printed.getvalue().strip().splitlines() or ["ran"])[-1]


def measure(name: str, count: int, edited: int, seed: int, pictures: Path | None) -> dict[str, Any]:
    """Everything about one simulator."""
    cases: dict[str, Any] = {}
    frames: list[Frame] = []
    for case in CASES[name]():
        found, seen = measure_case(case, range(seed, seed + count))
        cases |= found
        frames += seen
    chosen = frames[:: max(1, len(frames) // max(1, edited))][:edited]
    return {
        "cases": cases,
        "controls": controls(frames),
        "edits": edits(chosen, "embedded", pictures) if edited else None,
        "guide": run_guide(name) if edited else "not run",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(CASES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--edits", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=None)
    args = parser.parse_args()
    found = measure(args.name, args.frames, args.edits, args.seed, args.pictures)
    args.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
