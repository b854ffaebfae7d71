"""How far could any post-training get? The reward's own gradient, through the same adapter.

Reinforcement learning sees only scores. Here the semantic score (nearest patches) is differentiated
through the judge, the autoencoder and the one-step editor instead: what this reaches in so many
optimiser steps bounds what ranking edits can, with these parameters and this learning rate.

    python benchmarks/reward_bound.py ../shared/photos/counter
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from harness import lab_folders, report
from PIL import Image
from post_training import CONFIG, ROOT, TEST_FRAMES, Lab, brief, changed, edits_of, spread
from real_photos import task_frames
from torch import Tensor
from torch.nn import functional

from spie_robo.config_files import load_config
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.latents import decode_target
from spie_robo.editor.noise_prediction import predict_noise
from spie_robo.editor.references import cover, to_tensor
from spie_robo.evaluation.judges import JudgeNames, load_judges
from spie_robo.features import encoder
from spie_robo.training.checkpoint import Row
from spie_robo.training.config import TrainConfig
from spie_robo.training.inputs import EpochInputs, epoch_inputs
from spie_robo.training.preview import grid
from spie_robo.training.rollout import condition_rows, seeded
from spie_robo.training.run import TrainingRun, prepare

MEASURED_AT = (5, 10, 20, 40)
INPUTS = 8
LEVEL = 4  # strides 2, 4, 8, 16: the last is the judge's


def patches(images: Tensor) -> Tensor:
    """Unit features (B, C, positions) of images (B, 3, H, W) in [-1, 1]."""
    features = encoder().levels_with_gradient((images + 1) * 127.5, LEVEL)[-1]
    return functional.normalize(features.flatten(2), dim=1)


def nearest_loss(run: TrainingRun, inputs: EpochInputs, step: int) -> Tensor:
    """The semantic score of fresh one-step edits, with gradients to the adapter."""
    pipeline, rows = run.editor.pipeline, range(len(inputs))
    noise = run.editor.settings.initial_noise * torch.stack(
        [
            torch.randn(inputs.input_latents.shape[1:], generator=seeded(run.config.seed, step, i))
            for i in rows
        ]
    )
    last = pipeline.scheduler.config.num_train_timesteps - 1
    clean = predict_noise(
        pipeline.unet,
        noise,
        torch.full((len(inputs),), last),
        condition_rows(pipeline, inputs, rows),
        Guidance(1.0, 1.0, 1.0),
    )
    edits = decode_target(pipeline.vae, clean, inputs.input_latents, pipeline.latent_spec)
    photos = [to_tensor(cover(each.photo, *edits.shape[-2:])) for each in inputs.judged]
    similarity = torch.einsum("bcn,bcm->bnm", patches(edits), patches(torch.stack(photos)))
    return (1 - similarity.max(dim=2).values).mean()


def climb(lab: Lab, config: TrainConfig, picture: Path) -> dict[int, Row]:
    """Measure the base, and after each number of gradient steps."""
    run = prepare(config, lab.photos, task_frames(200)[::2][:TEST_FRAMES] + task_frames(100))
    base = edits_of(run)
    measured = {0: lab.measure(run.preview, base, config.seed)}
    columns = [[frame.rgb for frame in run.preview.frames], base]
    parameters = list(run.policy.parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=config.optimizer.learning_rate, weight_decay=0.0)
    for step in range(1, max(MEASURED_AT) + 1):
        inputs = epoch_inputs(run.data, INPUTS, seed=config.seed, epoch=step)
        optimizer.zero_grad()
        nearest_loss(run, inputs, step).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step in MEASURED_AT:
            columns.append(edits_of(run))
            measured[step] = lab.measure(run.preview, columns[-1], config.seed)
            print(lab.name, config.seed, step, brief(measured[step]), flush=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid([column[::3] for column in columns])).save(picture)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", type=Path, nargs="*", default=lab_folders())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not options.labs:
        print("Skipped: no labs. Give folders with references/ and held_out/.")
        return
    torch.set_num_threads(options.threads)
    lines = [
        "| lab | steps | semantic, nearest | gap closed | structure, simulator | KID x 1000 "
        "| colour histogram |",
        "|---|---|---|---|---|---|---|",
    ]
    results = {}
    for folder in options.labs:
        lab = Lab(folder, load_judges(JudgeNames()))
        runs = []
        for seed in options.seeds:
            settings = load_config(TrainConfig, CONFIG)
            config = changed(
                optimizer__learning_rate=options.learning_rate, seed=seed, preview=TEST_FRAMES
            )(settings)
            runs.append(climb(lab, config, ROOT / "out" / f"bound_{lab.name}_{seed}.png"))
        results[lab.name] = runs
        floor = lab.floors["semantic_nearest"]
        for step in runs[0]:
            rows = [run[step] for run in runs]
            gaps = [
                100
                * (run[0]["semantic_nearest"] - run[step]["semantic_nearest"])
                / (run[0]["semantic_nearest"] - floor)
                for run in runs
            ]
            shown = [spread([row[key] for row in rows]) for key in
                     ("semantic_nearest", "structural_simulator", "kid", "color")]  # fmt: skip
            shown[2] = spread([1000 * row["kid"] for row in rows], 0)
            lines.append(
                f"| {lab.name} | {step} | {shown[0]} | {spread(gaps, 0)} % | {shown[1]} "
                f"| {shown[2]} | {shown[3]} |"
            )
    report("reward_bound", options.seeds[0], results, "\n".join(lines))


if __name__ == "__main__":
    main()
