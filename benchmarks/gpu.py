"""What a GPU does with the editors: full-size InstructPix2Pix and the embedded one.

InstructPix2Pix, Depth Anything V2 Small and DINOv2 have their real shapes and random weights (see
``gpu_models.py``): seconds and memory are those of the real ones, pictures are not.

    spie-robo record --env SpieRobo/Push-v0 --episodes 20 --out sim.zarr
    python benchmarks/gpu.py --store sim.zarr --photos my_lab_photos/ --models /tmp/models

Neither the simulator nor a model hub is needed. ``--small`` tries it on a CPU with narrow networks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from gpu_models import save_depth_judge, save_instruct_pix2pix, save_patch_judge
from harness import ROOT, report
from PIL import Image
from training_cost import ours, straightforward

from spie_robo.data import convert_store
from spie_robo.data.frames import sample_frames
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editor import Editor
from spie_robo.editor.guidance import Guidance
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.settings import EditorSettings
from spie_robo.guard import GeometryGuard
from spie_robo.guard.process import GuardProcess
from spie_robo.settings.yaml_files import load_config
from spie_robo.training.config import TrainConfig
from spie_robo.training.run import post_train
from spie_robo.training.setup import TrainingRun, prepare
from spie_robo.types import Frame

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TEXT = "make it look like a photo of the lab"
PAPER = Guidance(1.5, 3.0, 7.5)
NO_PHOTOS = Guidance(1.5, 7.5, 7.5)
"""InstructPix2Pix's own: the style branch has no weight, three passes are left."""
PARTS = ("edits", "same", "embedded", "convert", "train", "command")
WAYS = {"ours": ours, "straightforward": straightforward}


def timed(work: Callable[[], Any], repeats: int) -> tuple[list[float], float]:
    """Seconds of each repeat after one to warm up, and the peak of GPU memory in GB."""
    work()
    seconds = []
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        finish()
        began = time.perf_counter()
        work()
        finish()
        seconds.append(time.perf_counter() - began)
    return seconds, peak_gigabytes()


def finish() -> None:
    """Wait for the GPU."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak_gigabytes() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0


def told(seconds: Sequence[float], frames: int) -> str:
    """Frames a second, with the slowest and the fastest repeat."""
    rates = frames / np.asarray(seconds)
    return f"{np.median(rates):.2f} ({rates.min():.2f} to {rates.max():.2f})"


def full_size_edits(options: argparse.Namespace, frames: list[Frame]) -> tuple[Any, list[str]]:
    """Ours against diffusers' own pipeline: bfloat16, Euler ancestral, the same seeds."""
    folder = options.models / "instruct_pix2pix"
    images = [cv2.resize(f.rgb, (options.size,) * 2) for f in frames[:8]]
    stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        folder, torch_dtype=torch.bfloat16, safety_checker=None
    ).to(DEVICE)
    stock.set_progress_bar_config(disable=True)

    def by_stock(batch: int) -> list[Any]:
        made: list[Any] = []
        for start in range(0, len(images), batch):
            some = [Image.fromarray(image) for image in images[start : start + batch]]
            made += stock(
                [TEXT] * len(some), image=some, num_inference_steps=options.steps,
                guidance_scale=NO_PHOTOS.text, image_guidance_scale=NO_PHOTOS.image,
                generator=[torch.Generator().manual_seed(0) for _ in some],
            ).images  # fmt: skip
        return made

    def by_ours(editor: Editor, photos: Path | None) -> list[Any]:
        edits = editor.edit([Frame(i) for i in images], photos, TEXT, [0] * len(images))
        return [edit.rgb for edit in edits]

    found: dict[str, Any] = {}
    for batch in (1, 8):
        found[f"diffusers, 3 branches, batch {batch}"] = timed(
            lambda batch=batch: by_stock(batch), options.repeats
        )
    stock.to("cpu")
    for batch in (1, 8):
        for branches, guidance, photos in ((3, NO_PHOTOS, None), (4, PAPER, options.photos)):
            settings = EditorSettings(
                TEXT, options.steps, guidance, "euler_ancestral",
                resolution=options.size, batch_size=batch,
            )  # fmt: skip
            editor = Editor.from_pretrained(folder, dtype=torch.bfloat16, settings=settings)
            name = f"spie_robo, {branches} branches, batch {batch}"
            found[name] = timed(
                lambda editor=editor, photos=photos: by_ours(editor, photos), options.repeats
            )
    base = np.median(found["diffusers, 3 branches, batch 1"][0])
    lines = ["| InstructPix2Pix at full size | frames a second | against diffusers, batch 1 "
             "| peak memory, GB |", "|---|---|---|---|"]  # fmt: skip
    for name, (seconds, peak) in found.items():
        faster = base / np.median(seconds)
        lines.append(f"| {name} | {told(seconds, len(images))} | {faster:.2f}x | {peak:.1f} |")
    lines.append(
        f"\n{len(images)} frames of {options.size}x{options.size}, {options.steps} steps, bfloat16."
    )
    return found, lines


def same_as_stock(options: argparse.Namespace, frames: list[Frame]) -> tuple[Any, list[str]]:
    """How far our edits are from those of diffusers' pipeline: float32, the same seeds."""
    folder = options.models / "instruct_pix2pix"
    images = [cv2.resize(frame.rgb, (options.size,) * 2) for frame in frames[:2]]
    stock = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None).to(
        DEVICE
    )
    stock.set_progress_bar_config(disable=True)
    expected = [
        np.asarray(stock(
            TEXT, image=Image.fromarray(image), num_inference_steps=options.steps,
            guidance_scale=NO_PHOTOS.text, image_guidance_scale=NO_PHOTOS.image,
            generator=torch.Generator().manual_seed(0),
        ).images[0]).astype(int)
        for image in images
    ]  # fmt: skip
    stock.to("cpu")
    settings = EditorSettings(
        TEXT, options.steps, NO_PHOTOS, "euler_ancestral", resolution=options.size
    )
    editor = Editor.from_pretrained(folder, settings=settings)
    made = editor.edit([Frame(image) for image in images], None, TEXT, [0] * len(images))
    apart = np.abs(np.stack([edit.rgb for edit in made]) - np.stack(expected))
    found = {"mean": apart.mean(), "most": int(apart.max()), "std": np.std(expected)}
    line = (
        f"Full size, float32, the same seeds: edits are {apart.mean():.3f} of 255 from diffusers' "
        f"on average, {apart.max()} at most (their deviation: {np.std(expected):.0f})."
    )
    return found, [line]


def embedded_edits(options: argparse.Namespace, frames: list[Frame]) -> tuple[Any, list[str]]:
    """The embedded editor: batches, the CPU beside it, equal bytes, and how far both are apart."""
    found: dict[str, Any] = {}
    edits: dict[str, Any] = {}
    places = [("cpu", 1), (DEVICE, 1), (DEVICE, 8), (DEVICE, 64)]
    for device, batch in places:
        editor = Editor.from_pretrained("embedded", device=device, batch_size=batch)
        some = frames[:32] if device == "cpu" else frames

        def work(editor: Editor = editor, some: list[Frame] = some) -> Any:
            made = editor.edit(some, options.photos, seeds=[0] * len(some))
            return np.stack([edit.rgb for edit in made]).astype(int)

        name = f"{device}, batch {batch}"
        found[name] = (*timed(work, options.repeats), len(some))
        edits[name] = work()
        if batch == 1:
            found[f"{name}, the same bytes again"] = bool((work() == edits[name]).all())
    apart = np.abs(edits["cpu, batch 1"] - edits[f"{DEVICE}, batch 1"][:32])
    alone = 32 / np.median(found["cpu, batch 1"][0])
    lines = ["| the embedded editor | frames a second | against the CPU |", "|---|---|---|"]
    for name, row in found.items():
        if isinstance(row, tuple):
            rate = row[2] / np.median(row[0])
            lines.append(f"| {name} | {told(row[0], row[2])} | {rate / alone:.1f}x |")
    lines.append(
        f"\nCPU: {torch.get_num_threads()} threads. Edits on both, one at a time: "
        f"{(apart > 0).mean():.2%} of the values differ, by {apart.max()} of 255 at most. Edited "
        f"again on the GPU: the same bytes: {found[f'{DEVICE}, batch 1, the same bytes again']}."
    )
    return {**found, "apart": [float((apart > 0).mean()), int(apart.max())]}, lines


def conversions(options: argparse.Namespace, frames: list[Frame]) -> tuple[Any, list[str]]:
    """``convert`` from opening the source to the checked output, against the bare editor."""
    guard, found = GeometryGuard(), dict[str, Any]()
    full = EditorSettings(
        TEXT, options.steps, PAPER, "euler_ancestral", resolution=options.size, batch_size=8
    )
    editors = {
        "embedded": lambda: Editor.from_pretrained("embedded", batch_size=8),
        "InstructPix2Pix": lambda: Editor.from_pretrained(
            options.models / "instruct_pix2pix", dtype=torch.bfloat16, settings=full
        ),
    }
    lines = [
        "| editor, batch 8 | way | frames a second | of the bare editor's |",
        "|---|---|---|---|",
    ]
    out = options.models / "converted.zarr"
    with GuardProcess(guard) as apart:
        for name, load in editors.items():
            editor = load()
            store = options.store if name == "embedded" else options.few
            some = frames if name == "embedded" else frames[:16]
            bare, _ = timed(
                lambda: editor.edit(some, options.photos, seeds=[0] * len(some)),  # noqa: B023
                options.repeats,
            )
            alone = len(some) / np.median(bare)
            lines.append(f"| {name} | bare editor | {told(bare, len(some))} | 100 % |")
            found[name] = {"bare": bare}
            for way, judge in (("no guard", None), ("guard", guard), ("guard apart", apart)):
                rates = []
                for _ in range(options.repeats + 1):  # the first warms up
                    shutil.rmtree(out, ignore_errors=True)
                    guarded = GuardedEditor(editor, judge, options.photos, retries=0)
                    began = time.perf_counter()
                    made = convert_store(store, out, guarded, progress=False)
                    rates.append(made.frames / (time.perf_counter() - began))
                shares = np.asarray(rates[1:]) / alone
                lines.append(
                    f"| {name} | convert, {way} | {np.median(rates[1:]):.2f} | "
                    f"{np.median(shares):.0%} ({shares.min():.0%} to {shares.max():.0%}) |"
                )
                found[name][way] = {"frames": made.frames, "rates": rates}
    return found, lines


def train_config(options: argparse.Namespace) -> TrainConfig:
    """The paper's settings, with models from disk and fewer edits."""
    paper = load_config(TrainConfig, ROOT / "configs" / "train" / "instruct_pix2pix.yaml")
    judges = dataclasses.replace(
        paper.feedback,
        depth_judge=str(options.models / "depth"),
        patch_judge=str(options.models / "patches"),
    )
    rollout = dataclasses.replace(paper.rollout, inputs=options.inputs, steps=options.train_steps)
    return dataclasses.replace(
        paper, editor=str(options.models / "instruct_pix2pix"), epochs=2, frames=12, preview=2,
        rollout=rollout, feedback=judges, gradient_checkpointing=options.checkpointing,
        precision="bf16" if DEVICE == "cuda" else "no",
    )  # fmt: skip


def load_run(options: argparse.Namespace) -> TrainingRun:
    config = train_config(options)
    drawn = sample_frames(options.store, config.frames + config.preview)
    return prepare(config, check_photos(options.photos), drawn)


def training_costs(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """An epoch of ``spie`` at the paper's scales, each way in a process of its own."""
    found: dict[str, Any] = {}
    names = "store", "photos", "models", "inputs", "train_steps", "repeats"
    arguments = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    ways = [("straightforward", False), ("ours", False), ("ours", True)]
    for way, checkpointing in ways:
        command = [sys.executable, __file__, "--way", way, *arguments]
        command += ["--checkpointing"] * checkpointing
        done = subprocess.run(command, capture_output=True, text=True)
        name = f"{way}{', gradient checkpointing' if checkpointing else ''}"
        if done.returncode == 0:
            found[name] = json.loads(done.stdout.strip().splitlines()[-1])
        else:
            found[name] = {"failed": done.stderr.strip().splitlines()[-1]}
    lines = ["| post-training at full size | seconds an epoch | faster | peak memory, GB |",
             "|---|---|---|---|"]  # fmt: skip
    slow = found["straightforward"].get("seconds")
    for name, row in found.items():
        if "failed" in row:
            lines.append(f"| {name} | {row['failed'][:90]} | | |")
            continue
        faster = f"{np.median(slow) / np.median(row['seconds']):.2f}x" if slow else ""
        times = ", ".join(f"{one:.1f}" for one in row["seconds"])
        lines.append(f"| {name} | {times} | {faster} | {row['peak']:.1f} |")
    lines.append(
        f"\n{options.inputs} frames, two edits of each at {options.train_size}x"
        f"{options.train_size}, {options.train_steps} steps, scales 1.5/3/7.5, bfloat16 autocast."
    )
    return found, lines


def child(options: argparse.Namespace) -> None:
    """One way of post-training, in this process."""
    run = load_run(options)
    with run.accelerator.autocast():
        seconds, peak = timed(lambda: WAYS[options.way](run), options.repeats)
    print(json.dumps({"seconds": seconds, "peak": peak}))


def whole_command(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """``spie-robo train`` itself, and an edit by the adapter that it leaves."""
    out = options.models / "adapter"
    shutil.rmtree(out, ignore_errors=True)
    config = train_config(options)
    began = time.perf_counter()
    line = str(post_train(options.photos, options.store, out, config, resume=False))
    seconds = time.perf_counter() - began
    editor = Editor.from_pretrained(
        out, base=config.editor, dtype=torch.bfloat16 if DEVICE == "cuda" else torch.float32
    )
    edit = editor.edit(sample_frames(options.store, 1), seeds=[0])[0].rgb
    said = (
        f"{line}; {seconds:.0f} s with loading; its adapter edits: {edit.shape}, {edit.std():.1f}"
    )
    return {"seconds": seconds, "line": line}, [said]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="episodes, for all parts")
    parser.add_argument("--few", type=Path, help="episodes that InstructPix2Pix converts")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="scratch folder, 5 GB")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--frames", type=int, default=256, help="for the embedded editor")
    parser.add_argument("--size", type=int, default=512, help="at which InstructPix2Pix edits")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--train-size", type=int, default=256, help="of edits in post-training")
    parser.add_argument("--inputs", type=int, default=2)
    parser.add_argument("--train-steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--small", action="store_true", help="narrow networks")
    parser.add_argument("--name", default="gpu", help="of the results file")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.few = options.few or options.store
    if options.way:
        child(options)
        return
    began = time.perf_counter()
    save_instruct_pix2pix(options.models / "instruct_pix2pix", options.small)
    EditorSettings(TEXT, resolution=options.train_size).save(options.models / "instruct_pix2pix")
    save_depth_judge(options.models / "depth", options.small)
    save_patch_judge(options.models / "patches", options.small)
    frames = sample_frames(options.store, options.frames)
    parts: dict[str, Callable[[], tuple[Any, list[str]]]] = {
        "same": lambda: same_as_stock(options, frames),
        "embedded": lambda: embedded_edits(options, frames),
        "edits": lambda: full_size_edits(options, frames),
        "convert": lambda: conversions(options, frames),
        "train": lambda: training_costs(options),
        "command": lambda: whole_command(options),
    }
    gpu = torch.cuda.get_device_name() if DEVICE == "cuda" else "none"
    results: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__}
    table = [f"GPU: {gpu}, torch {torch.__version__}"]
    for name in options.parts:
        print(f"{time.perf_counter() - began:.0f} s: {name}", flush=True)
        results[name], lines = parts[name]()
        table += ["", *lines]
        report(options.name, 0, results, "\n".join(table))  # after each, lest a later one fails
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
