"""Edits of simulators that no editor here was trained on, against their own photoreal twins.

For each of some states of an environment: the raw frame, the same state path-traced in an unseen
lab (the target), and photos of that lab: other states, from other cameras. Editors get frame,
geometry and photos. An editor is as good as what it gains over the best of the raw frame,
histogram matching and Reinhard's transfer. Run it in an environment of each package::

    MUJOCO_GL=egl python benchmarks/held_out_simulators.py metaworld --editors embedded
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import mujoco
import numpy as np
from PIL import Image
from twin_mujoco import SUITES, states

from spie_robo.editing.by_name import editor_by_name
from spie_robo.envs.scene_state import SceneState
from spie_robo.envs.twin import MujocoShapes, TwinRenderer
from spie_robo.envs.twin.lab_styles import sample_lab_style
from spie_robo.envs.twin.mujoco_alignment import mujoco_instances
from spie_robo.envs.twin.sources import MujocoSimulation
from spie_robo.evaluation.baselines import match_histograms, reinhard
from spie_robo.evaluation.distances import perceptual_distance, psnr
from spie_robo.types import RGB, Frame, Geometry

HELD_OUT = ("metaworld", "robosuite", "aloha")
FIRST_STYLE = 900_000
PHOTOS = 3
BASELINES = ("raw", "histogram matching", "Reinhard")


@dataclass(frozen=True)
class Case:
    """One frame with its target and the photos of the target's lab."""

    frame: Frame
    target: RGB
    photos: tuple[RGB, ...]


def main() -> None:
    """Measure the suites named; write figures and a sheet of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="+", choices=HELD_OUT)
    parser.add_argument("--editors", nargs="+", default=["embedded"])
    parser.add_argument("--states", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="folder for sheets")
    options = parser.parse_args()
    harness.limit_threads(1)
    for suite in options.suites:
        measure(suite, options)


def measure(suite: str, options: argparse.Namespace) -> None:
    """One suite: every editor on every case."""
    editors = {name: editor_by_name(name) for name in options.editors}
    images: dict[str, list[RGB]] = {}
    for number, case in enumerate(cases(suite, options)):
        raw = case.frame.rgb
        found = {
            "raw": raw,
            "histogram matching": match_histograms(raw, case.photos[0]),
            "Reinhard": reinhard(raw, case.photos[0]),
            "target": case.target,
            "photo": case.photos[0],
        }
        for name, editor in editors.items():
            found[name] = editor.edit([case.frame], list(case.photos), None, [number])[0].rgb
        for name, image in found.items():
            images.setdefault(name, []).append(image)
    results = {name: distances(images[name], images["target"]) for name in (*BASELINES, *editors)}
    best = np.max([results[name]["psnr_each"] for name in BASELINES], axis=0)
    for name in editors:
        gains = np.array(results[name]["psnr_each"]) - best
        results[name]["gain"] = {"mean": float(gains.mean()), **interval(gains, options.seed)}
    if options.pictures is not None:
        sheet(images, options.pictures / f"held_out_{suite}.png", list(editors))
    harness.report(f"held_out_{suite}", options.seed, results, as_table(results))


def cases(suite: str, options: argparse.Namespace) -> Iterator[Case]:
    """Frames of a suite; the photos are other states in the same lab, seen by other cameras."""
    env = SUITES[suite].make()
    seen: list[tuple[Frame, SceneState]] = []
    for simulation, camera in states(env, SUITES[suite], options.states):
        seen.append(look(simulation, camera, options.size))
    renderer = TwinRenderer(samples=4)
    count = len(seen)
    for index, (frame, state) in enumerate(seen):
        style = sample_lab_style(FIRST_STYLE + index)
        others = [seen[(index + step + 1) % count][1] for step in range(PHOTOS)]
        target, *photos = [
            renderer.render(
                scene, scene.cameras[0].name, style, seed, sensor_noise=seed > 0, metering=True
            )
            for seed, scene in enumerate((state, *others))
        ]
        yield Case(frame, target, tuple(photos))


def look(simulation: MujocoSimulation, camera: Any, size: int) -> tuple[Frame, SceneState]:
    """The raw frame with its geometry, and the state for the twin."""
    model, data, option = simulation.model, simulation.data, simulation.option
    state = MujocoShapes(model, data, option=option).state([camera], size, size)
    instances = mujoco_instances(model, data, camera, size, size, option)
    renderer = mujoco.Renderer(model, size, size)
    renderer.update_scene(data, camera=camera, scene_option=option)
    rgb = renderer.render()
    renderer.enable_depth_rendering()
    renderer.update_scene(data, camera=camera, scene_option=option)
    depth = np.where(instances < 0, 0, renderer.render()).astype(np.float32)
    renderer.close()
    pose = state.cameras[0]
    names = {shape.instance: shape.name for shape in state.shapes if shape.instance >= 0}
    geometry = Geometry(depth, instances, names, pose.intrinsics, pose.extrinsics)
    return Frame(np.ascontiguousarray(rgb), pose.name, geometry), state


def distances(images: list[RGB], targets: list[RGB]) -> dict[str, Any]:
    """PSNR and perceptual distance to the targets."""
    each = [psnr(image, target) for image, target in zip(images, targets, strict=True)]
    perceptual = perceptual_distance(images, targets)
    return {
        "psnr": float(np.mean(each)),
        "psnr_each": each,
        "perceptual": float(perceptual.mean()),
        "n": len(each),
    }


def interval(values: np.ndarray[Any, Any], seed: int, draws: int = 2000) -> dict[str, float]:
    """Bootstrap interval of the mean, 95 %."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def as_table(results: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        "| method | PSNR, dB | perceptual | gain over the best of raw, histogram, Reinhard, dB |",
        "|---|---|---|---|",
    ]
    for name, row in results.items():
        gain = row.get("gain")
        told = (
            "" if gain is None else f"{gain['mean']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}]"
        )
        lines.append(f"| {name} | {row['psnr']:.2f} | {row['perceptual']:.3f} | {told} |")
    return "\n".join(lines)


def sheet(images: dict[str, list[RGB]], path: Path, editors: list[str]) -> None:
    """Rows of raw, each editor, target and a photo of the lab."""
    columns = ("raw", *editors, "target", "photo")
    count = min(6, len(images["raw"]))
    rows = [np.concatenate([images[name][index] for name in columns], 1) for index in range(count)]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
