"""Experts' success, speed of the environments and the twin, alignment of the twin's silhouettes.

python benchmarks/envs.py                          # the figures of docs/results/editor.md
python benchmarks/envs.py --episodes 3 --steps 20 --frames 3 --states 2    # a quick check
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from harness import report, spread
from tables.editing_tables import expert_table, silhouette_table, step_table

import spie_robo.envs
from spie_robo.envs.experts import make_expert
from spie_robo.envs.scene_sampling import SceneSampler
from spie_robo.envs.twin import TwinRenderer, sample_style
from spie_robo.envs.twin.alignment import GROUPS, measure_alignment
from spie_robo.policies import wilson_interval


def main() -> None:
    arguments = parse_arguments()
    seed = arguments.seed
    results = {
        "experts": {
            env_id: expert_success(env_id, seed, arguments.episodes)
            for env_id in spie_robo.envs.ENV_IDS
        },
        "speed": {
            "step with two 128x128 images": step_times(seed, arguments.steps, images=True),
            "step without images": step_times(seed, arguments.steps, images=False),
            "twin frame, 128x128, 4 samples, denoised": twin_times(seed, arguments.frames),
        },
        "alignment": alignment(seed, arguments.states),
    }
    report("envs", seed, results, table(results))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=20_000, help="first of the seeds")
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each expert")
    parser.add_argument("--steps", type=int, default=300, help="timed steps")
    parser.add_argument("--frames", type=int, default=50, help="timed twin frames")
    parser.add_argument("--states", type=int, default=20, help="states whose silhouettes count")
    return parser.parse_args()


def expert_success(env_id: str, first_seed: int, episodes: int) -> dict[str, Any]:
    """Episodes without looking, which experts do not need and which is most of a step's time."""
    env = gym.make(env_id, width=16, height=16)
    assert env.spec is not None and env.spec.max_episode_steps is not None
    task: Any = env.unwrapped
    expert = make_expert(env)
    lengths, failures = [], []
    for seed in range(first_seed, first_seed + episodes):
        observation, _ = env.reset(seed=seed)
        expert.reset(seed)
        for step in range(1, env.spec.max_episode_steps + 1):
            task.advance(expert.act(observation))
            if task.success():
                lengths.append(step)
                break
        else:
            failures.append(seed)
    env.close()
    successes = episodes - len(failures)
    low, high = wilson_interval(successes, episodes)
    return {
        "successes": successes,
        "episodes": episodes,
        "wilson_95": [low, high],
        "steps_to_success": spread(lengths or [float("nan")]),
        "failed_seeds": failures,
    }


def step_times(seed: int, steps: int, images: bool) -> dict[str, float]:
    """Seconds a step of Push; without images, control and physics alone."""
    env: Any = gym.make("SpieRobo/Push-v0", max_episode_steps=10**9).unwrapped
    env.reset(seed=seed)
    env.action_space.seed(seed)

    def step() -> None:
        action = env.action_space.sample()
        if images:
            env.step(action)
        else:
            env.advance(action)

    measured = timed(step, steps)
    env.close()
    return measured


def twin_times(seed: int, frames: int) -> dict[str, float]:
    """Seconds a frame, each in a new scene and style, meshes loaded beforehand."""
    sampler, renderer = SceneSampler(), TwinRenderer()
    seeds = iter(range(seed, seed + frames + 1))
    scenes = {number: sampler.sample(number) for number in range(seed, seed + frames + 1)}

    def render() -> None:
        number = next(seeds)
        scene = scenes[number]
        renderer.render(scene.state, scene.frame.camera, sample_style(number), number)

    render()
    measured = timed(render, frames)
    sampler.close()
    return measured


def timed(action: Callable[[], None], times: int) -> dict[str, float]:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return spread(seconds)


def alignment(seed: int, states: int) -> dict[str, Any]:
    """Silhouettes of at least 150 pixels at 128x128."""
    sampler = SceneSampler()
    entries = [
        entry
        for number in range(seed, seed + states)
        for entry in measure_alignment(sampler.sample(number), min_pixels=150)
    ]
    sampler.close()
    results = {}
    for group in GROUPS:
        chosen = [entry for entry in entries if entry.group == group]
        if chosen:
            results[group] = {
                "n": len(chosen),
                "iou_mean": float(np.mean([entry.iou for entry in chosen])),
                "iou_min": min(entry.iou for entry in chosen),
                "offset_max_pixels": max(entry.offset for entry in chosen),
            }
    return results


def table(results: dict[str, Any]) -> str:
    parts = (expert_table, step_table, silhouette_table)
    return "\n\n".join(part(results) for part in parts)


if __name__ == "__main__":
    main()
