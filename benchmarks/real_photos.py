"""The embedded editor with real photographs as references, which no training saw.

Simulator frames of the three tasks are edited with the photos of a folder ``references/``; KID is
taken to the photos of the folder ``held_out/`` beside it.

    python benchmarks/real_photos.py ../shared/photos/counter ../shared/photos/wood
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium
import numpy as np
from harness import lab_folders, report
from PIL import Image

from spie_robo.editor import Editor
from spie_robo.editor.photo_check import load_references
from spie_robo.envs import ENV_IDS
from spie_robo.envs.experts import make_expert
from spie_robo.evaluation.baselines import HistogramEditor, IdentityEditor, ReinhardEditor
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.evaluation.realism import PooledFeatures, kernel_distance
from spie_robo.guard import GeometryGuard
from spie_robo.types import RGB, Frame, ImageEditor

FRAMES_PER_TASK = 16
EVERY = 3


def task_frames(seed: int) -> list[Frame]:
    """Front-camera frames of the experts at work, ``FRAMES_PER_TASK`` of each task."""
    frames = []
    for env_id in ENV_IDS:
        env = gymnasium.make(env_id, distractors=3)
        expert, taken, episode = make_expert(env), 0, 0
        while taken < FRAMES_PER_TASK:
            observation, info = env.reset(seed=seed * 1000 + episode)
            expert.reset()
            for step in range(30):
                if step % EVERY == 0 and taken < FRAMES_PER_TASK:
                    frames.append(Frame(observation["front"], "front", info["geometry"]["front"]))
                    taken += 1
                observation, _, terminated, truncated, info = env.step(expert.act(observation))
                if terminated or truncated:
                    break
            episode += 1
        env.close()
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", type=Path, nargs="*", default=lab_folders())
    parser.add_argument("--editor", default="embedded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/real_photos"))
    options = parser.parse_args()
    if not options.labs:
        print("Skipped: no labs. Give folders with references/ and held_out/.")
        return
    frames, guard = task_frames(options.seed), GeometryGuard()
    methods: dict[str, ImageEditor] = {
        "raw frame": IdentityEditor(),
        "match_histograms": HistogramEditor(),
        "Reinhard": ReinhardEditor(),
        options.editor: Editor.from_pretrained(options.editor),
    }
    lines = [
        "| lab | method | KID x 1000 (embedding) | KID (stride 8) | gradients kept | accepted |",
        "|---|---|---|---|---|---|",
    ]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for lab in options.labs:
        references = list(load_references(lab / "references").images)
        photos = list(load_references(lab / "held_out").images)
        results[lab.name] = {}
        columns: list[RGB] = []
        for name, method in methods.items():
            seeds = [options.seed * 1000 + i for i in range(len(frames))]
            edits = method.edit(frames, references, None, seeds)
            images = [edit.rgb for edit in edits]
            accepted = np.mean([v.accepted for v in guard.judge_batch(frames, edits)])
            kid = kernel_distance(images, photos, seed=options.seed)
            fine = kernel_distance(
                images, photos, seed=options.seed, extractor=PooledFeatures("stride8")
            )
            kept = np.mean([gradient_ratio(i, f.rgb) for i, f in zip(images, frames, strict=True)])
            results[lab.name][name] = {
                "kid": kid.mean,
                "kid_stride8": fine.mean,
                "gradients": float(kept),
                "accepted": float(accepted),
            }
            lines.append(
                f"| {lab.name} | {name} | {1000 * kid.mean:.0f} ± {1000 * kid.deviation:.0f} "
                f"| {fine.mean:.0f} ± {fine.deviation:.0f} | {kept:.2f} "
                f"| {accepted:.0%} |"
            )
            columns.append(np.hstack(images[::6]))
        options.out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.vstack(columns)).save(options.out / f"{lab.name}.png")
    report("real_photos", options.seed, {"frames": len(frames), **results}, "\n".join(lines))


if __name__ == "__main__":
    main()
