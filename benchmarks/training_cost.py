"""What an epoch of post-training costs, against a straightforward implementation of the same loop.

The straightforward one keeps a deep copy of the UNet as reference policy, works on one edit at a
time, runs all four guidance branches in every pass, and holds the graph of a whole chain. Both run
the ``spie`` objective on the same frames, in processes of their own, on the embedded editor.

    python benchmarks/training_cost.py
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report
from torch import Tensor

from spie_robo.editor.guidance import Branch, Guidance
from spie_robo.editor.photo_check import CheckedPhotos
from spie_robo.editor.samplers import draw_noise, sample, step_log_prob
from spie_robo.feedback.ranking import rank
from spie_robo.training.config import OptimizerConfig, RolloutConfig, TrainConfig
from spie_robo.training.inputs import epoch_inputs
from spie_robo.training.preference import preference_loss
from spie_robo.training.rollout import condition_rows, finish, seeded
from spie_robo.training.run import build_trainer
from spie_robo.training.setup import TrainingRun, build_chain, prepare

SCALES = {"1 / 1 / 1": Guidance(1.0, 1.0, 1.0), "1.5 / 3 / 7.5": Guidance()}


def load(inputs: int, edits: int, steps: int, guidance: Guidance) -> TrainingRun:
    """A run on rendered photos of a named style."""
    from real_photos import task_frames  # here, since gpu.py has no simulator where it runs

    from spie_robo.envs.scene_sampling import SceneSampler
    from spie_robo.envs.twin import NAMED_STYLES, TwinRenderer

    config = TrainConfig(
        objective="spie",
        frames=16,
        preview=2,
        rollout=RolloutConfig(inputs=inputs, edits=edits, steps=steps, guidance=guidance),
        optimizer=OptimizerConfig(learning_rate=1e-4),
    )
    sampler, renderer = SceneSampler(wrist_share=0.0), TwinRenderer(2)
    scenes = [sampler.sample(seed) for seed in range(5)]
    style = NAMED_STYLES["oak-lab"]
    photos = tuple(renderer.render(scene.state, "front", style) for scene in scenes)
    sampler.close()
    files = tuple(Path(f"{seed}.png") for seed in range(len(photos)))
    return prepare(config, CheckedPhotos(files, photos), task_frames(0)[: config.frames + 2])


def ours(run: TrainingRun) -> None:
    """One epoch of the trainer."""
    build_trainer(run, None, {}).run_epoch(0)


def straightforward(run: TrainingRun) -> None:
    """The same epoch, written down as the equations say it."""
    policy, config = run.policy, run.config
    pipeline, reference = policy.pipeline, copy.deepcopy(policy.pipeline.unet)
    chain = build_chain(pipeline, config, run.editor.settings)
    inputs = epoch_inputs(run.data, config.rollout.inputs, seed=0, epoch=0)
    optimizer = torch.optim.AdamW(list(policy.parameters().values()), lr=1e-4)
    trajectories, cleans = {}, []
    for i in range(len(inputs)):
        for k in range(config.rollout.edits):
            start, along = [seeded(0, 0, 0, i, k)], [seeded(0, 0, 1, i, k)]
            noise = draw_noise(inputs.input_latents.shape[1:], start, inputs.input_latents)
            with torch.no_grad():
                denoise = all_branches(pipeline.unet, run, inputs, i, chain.guidance)
                clean, trajectory = sample(denoise, chain.sampler, noise, along, record=True)
            trajectories[i, k] = trajectory
            cleans.append(clean)
    grouped = torch.cat(cleans).unflatten(0, (len(inputs), config.rollout.edits))
    images = finish(pipeline, inputs, grouped, chain.frame_detail)
    feedback = rank(run.feedback.score(inputs.judged, images))
    optimizer.zero_grad()
    for i in range(len(inputs)):
        rows: list[list[Tensor]] = [[], []]
        for k in range(config.rollout.edits):
            latents = trajectories[i, k].latents
            for row, unet in zip(rows, (pipeline.unet, reference), strict=True):
                denoise = all_branches(unet, run, inputs, i, chain.guidance)
                steps = range(chain.sampler.steps - 1)
                row.append(
                    torch.cat(
                        [
                            step_log_prob(
                                denoise, chain.sampler, latents[:, s], latents[:, s + 1], s
                            )
                            for s in steps
                        ]
                    )
                )
        log_probs, reference_log_probs = (torch.stack(row)[None] for row in rows)
        loss, _ = preference_loss(
            log_probs,
            reference_log_probs.detach(),
            feedback.ranking[i : i + 1].to(log_probs.device),
            beta=0.1,
            eps=0.1,
        )
        (loss / len(inputs)).backward()
    torch.nn.utils.clip_grad_norm_(list(policy.parameters().values()), 1.0)
    optimizer.step()


def all_branches(
    unet: torch.nn.Module, run: TrainingRun, inputs: Any, row: int, guidance: Guidance
) -> Any:
    """A denoiser of one row that runs every branch, whatever its weight, one after the other."""

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        conditioning = condition_rows(run.policy.pipeline, inputs, [row])
        total = torch.zeros_like(latents)
        for branch in Branch:
            text, image, prompt = conditioning.branch(branch)
            stacked = torch.cat([latents, image, prompt], dim=1)
            output = unet(stacked, timestep, encoder_hidden_states=text, return_dict=False)[0]
            total = total + guidance.weights.get(branch, 0.0) * output
        return total

    return denoise


def measure(way: str, scales: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one way in a fresh process: seconds, and megabytes above the loaded models."""
    command = [sys.executable, __file__, "--way", way, "--scales", scales]
    command += ["--inputs", str(options.inputs), "--edits", str(options.edits)]
    command += ["--steps", str(options.steps), "--repeats", str(options.repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def child(options: argparse.Namespace) -> None:
    run = load(options.inputs, options.edits, options.steps, SCALES[options.scales])
    way = {"ours": ours, "straightforward": straightforward}[options.way]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        way(run)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "loaded_megabytes": before, "peak_megabytes": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=8)
    parser.add_argument("--edits", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=("ours", "straightforward"), help=argparse.SUPPRESS)
    parser.add_argument("--scales", choices=SCALES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        child(options)
        return
    results: dict[str, dict[str, dict[str, Any]]] = {}
    lines = [
        "| guidance scales | way | seconds an epoch | faster | peak memory, MB "
        "| above loaded, MB |",
        "|---|---|---|---|---|---|",
    ]
    for scales in SCALES:
        results[scales] = {
            way: measure(way, scales, options) for way in ("straightforward", "ours")
        }
        slow = np.median(results[scales]["straightforward"]["seconds"])
        for way, row in results[scales].items():
            median = float(np.median(row["seconds"]))
            low, high = min(row["seconds"]), max(row["seconds"])
            above = row["peak_megabytes"] - row["loaded_megabytes"]
            lines.append(
                f"| {scales} | {way} | {median:.1f} ({low:.1f} to {high:.1f}) "
                f"| {slow / median:.1f}x | {row['peak_megabytes']:.0f} | {above:.0f} |"
            )
    settings = {key: getattr(options, key) for key in ("inputs", "edits", "steps", "repeats")}
    report("training_cost", 0, {"settings": settings, **results}, "\n".join(lines))


if __name__ == "__main__":
    main()
