"""What the editor costs beside its main job: frame sizes, steadiness in time, protected colours.

python benchmarks/editor_details.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import cv2
import gymnasium
import numpy as np
from harness import report, spread

import spie_robo.envs  # noqa: F401  # registers the tasks
from spie_robo.editor import Editor
from spie_robo.envs.experts import make_expert
from spie_robo.envs.perturbations import PerturbationWrapper
from spie_robo.evaluation.gradient import gradient_ratio
from spie_robo.evaluation.temporal import flicker
from spie_robo.evaluation.warping import warping_ratio
from spie_robo.guard import GeometryGuard
from spie_robo.types import Frame

SIZES = ((64, 64), (96, 128), (128, 128), (256, 256), (480, 640))
TASK = "SpieRobo/Push-v0"


def episode(
    seed: int, size: tuple[int, int], steps: int, camera: str = "front", textured: bool = False
) -> list[Frame]:
    """One camera's frames of the Push expert, at a plain or a textured table."""
    env = gymnasium.make(TASK, height=size[0], width=size[1])
    if textured:
        env = PerturbationWrapper(env, "table-texture")
    observation, info = env.reset(seed=seed)
    expert, frames = make_expert(env), []
    for _ in range(steps):
        frames.append(Frame(observation[camera], camera, info["geometry"][camera]))
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        if terminated or truncated:
            break
    env.close()
    return frames


def sizes(editor: Editor, seed: int, count: int) -> dict[str, Any]:
    """Seconds, sharpness and verdicts at each frame size, beside a plainly enlarged edit."""
    guard, rows = GeometryGuard(), {}
    for size in SIZES:
        frames = episode(seed, size, count)
        editor.edit(frames[:1], seeds=[seed])
        seconds, edits = [], []
        for frame in frames:
            started = time.perf_counter()
            edits += editor.edit([frame], seeds=[seed])
            seconds.append(time.perf_counter() - started)
        kept, enlarged = [], []
        for frame, edit in zip(frames, edits, strict=True):
            kept.append(gradient_ratio(edit.rgb, frame.rgb))
            small = cv2.resize(edit.rgb, (128, 128), interpolation=cv2.INTER_AREA)
            plain = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
            enlarged.append(gradient_ratio(np.asarray(plain, np.uint8), frame.rgb))
        verdicts = guard.judge_batch(frames, edits)
        rows[f"{size[1]}x{size[0]}"] = {
            "seconds": spread(seconds),
            "gradients": float(np.mean(kept)),
            "gradients_enlarged": float(np.mean(enlarged)),
            "accepted": float(np.mean([v.accepted for v in verdicts])),
        }
    return rows


def steadiness(editor: Editor, seed: int, steps: int) -> dict[str, float]:
    """Flicker in grey levels a step where the raw frames stand still."""
    frames = episode(seed, (128, 128), steps)
    raw = [frame.rgb for frame in frames]
    fixed = [edit.rgb for edit in editor.edit(frames, seeds=[seed] * len(frames))]
    fresh = [edit.rgb for edit in editor.edit(frames, seeds=list(range(len(frames))))]
    return {
        "raw frames": flicker(raw, raw),
        "one seed an episode": flicker(raw, fixed),
        "a new seed every step": flicker(raw, fresh),
    }


def wrist_steadiness(editor: Editor, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Warping error of the wrist camera's edits over that of its raw frames.

    A plain table's raw error is 0 and counts as half a grey level.
    """
    rows: dict[str, dict[str, float]] = {}
    for table in ("plain", "textured"):
        frames = episode(seed, (128, 128), steps, "wrist", table == "textured")
        seeds = {
            "one seed an episode": [seed] * len(frames),
            "a new seed every step": list(range(len(frames))),
        }
        for name, chosen in seeds.items():
            edits = [edit.rgb for edit in editor.edit(frames, seeds=chosen)]
            rows.setdefault(name, {})[table] = warping_ratio(edits, frames)
    return rows


def protection(editor: Editor, seed: int, count: int) -> dict[str, dict[str, float]]:
    """Chroma drift of the red cube, in CIELAB units, with and without ``protect``."""
    guard = GeometryGuard(protect=("cube",))
    frames = episode(seed, (128, 128), count)
    rows = {}
    for name, protect in (("free", ()), ("protected", ("cube",))):
        edits = editor.edit(frames, seeds=[seed] * len(frames), protect=protect)
        drift = [v.value("chroma_drift") for v in guard.judge_batch(frames, edits)]
        rows[name] = spread([value for value in drift if not np.isnan(value)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--editor", default="embedded")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--frames", type=int, default=12)
    options = parser.parse_args()
    editor = Editor.from_pretrained(options.editor)
    results = {
        "sizes": sizes(editor, options.seed, options.frames),
        "flicker": steadiness(editor, options.seed, options.frames),
        "warping": wrist_steadiness(editor, options.seed, options.frames),
        "chroma_drift": protection(editor, options.seed, options.frames),
    }
    lines = [
        "| frame | seconds a frame | raw gradients kept | plainly enlarged | accepted |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["sizes"].items():
        seconds = row["seconds"]
        lines.append(
            f"| {name} | {seconds['median']:.2f} [{seconds['p5']:.2f}, {seconds['p95']:.2f}] "
            f"| {row['gradients']:.2f} | {row['gradients_enlarged']:.2f} "
            f"| {row['accepted']:.0%} |"
        )
    lines += ["", "| flicker in static pixels | grey levels a step |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in results["flicker"].items()]
    lines += ["", "| wrist camera, warping ratio | plain table | textured table |", "|---|---|---|"]
    for name, row in results["warping"].items():
        lines.append(f"| {name} | {row['plain']:.1f} | {row['textured']:.2f} |")
    lines += ["", "| the cube's chroma drift | CIELAB, median [5 %, 95 %] |", "|---|---|"]
    for name, row in results["chroma_drift"].items():
        lines.append(f"| {name} | {row['median']:.1f} [{row['p5']:.1f}, {row['p95']:.1f}] |")
    report("editor_details", options.seed, results, "\n".join(lines))


if __name__ == "__main__":
    main()
