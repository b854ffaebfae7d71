"""The optimisation loop that all stages share: resumable, averaged, logged."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spie_robo.pretraining.config import LoopConfig

logger = logging.getLogger(__name__)

LossFunction = Callable[[torch.Generator], tuple[Tensor, dict[str, float]]]
"""Draws a batch from the generator; returns its loss and what to log."""


@dataclass(frozen=True)
class Progress:
    """The progress of a training run.

    Attributes:
        step: Optimiser steps done.
        seconds: Training time so far, interruptions not counted.
    """

    step: int
    seconds: float


def run_loop(
    model: nn.Module,
    loss_function: LossFunction,
    config: LoopConfig,
    folder: Path,
    seed: int,
    on_checkpoint: Callable[[nn.Module, Progress], None] | None = None,
) -> Progress:
    """Train ``model`` and leave the averaged weights in it.

    Each step draws its randomness from a generator seeded by (seed, step), so a resumed run
    continues as if it had never stopped.

    Args:
        model: Everything that is trained, as one module.
        loss_function: One batch's loss.
        config: Steps, batch size, learning rate.
        folder: For checkpoints and ``log.jsonl``.
        seed: Seed of the batches.
        on_checkpoint: Called with the averaged model after each checkpoint.

    Returns:
        Steps and seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    progress = _resume(folder, model, optimizer, average)
    while progress.step < config.steps:
        started = time.perf_counter()
        rate = _learning_rate(progress.step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(seed * 1_000_003 + progress.step)
        loss, metrics = loss_function(generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
            _update_average(
                average, model, min(config.ema, (1 + progress.step) / (10 + progress.step))
            )
        seconds = progress.seconds + time.perf_counter() - started
        progress = Progress(progress.step + 1, seconds)
        if progress.step % 20 == 0:
            _log(
                folder,
                progress,
                {"loss": float(loss.detach()), "rate": rate, "norm": float(norm), **metrics},
            )
        if progress.step % config.checkpoint_every == 0 or progress.step == config.steps:
            _checkpoint(folder, model, optimizer, average, progress)
            if on_checkpoint is not None:
                with _averaged(model, average):
                    on_checkpoint(model, progress)
    model.load_state_dict(average, strict=False)
    return progress


def _learning_rate(step: int, config: LoopConfig) -> float:
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    fraction = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * fraction))


def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            average[name].lerp_(parameter, 1 - decay)


@contextmanager
def _averaged(model: nn.Module, average: dict[str, Tensor]) -> Iterator[None]:
    """While inside, the model holds the averaged weights and is in evaluation mode."""
    current = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.load_state_dict(average, strict=False)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.load_state_dict(current, strict=False)
        model.train()


def _checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    progress: Progress,
) -> None:
    """One file, replaced as a whole: a kill leaves the previous one."""
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    tensors |= {f"average.{name}": p.contiguous() for name, p in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        # Not every parameter has taken every step: a discriminator joins later.
        for key in ("step", "exp_avg", "exp_avg_sq"):
            tensors[f"optimizer.{index}.{key}"] = state[key].contiguous()
    metadata = {"step": str(progress.step), "seconds": repr(progress.seconds)}
    staged = folder / "checkpoint.partial"
    save_file(tensors, staged, metadata)
    os.replace(staged, folder / "checkpoint.safetensors")


def _resume(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> Progress:
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return Progress(0, 0.0)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model.{name}"])
            average[name].copy_(tensors[f"average.{name}"])
    step = int(metadata["step"])
    for index, parameter in enumerate(parameters.values()):
        if f"optimizer.{index}.exp_avg" in tensors:
            taken = tensors.get(f"optimizer.{index}.step", torch.tensor(float(step)))
            optimizer.state[parameter] = {
                "step": taken.clone(),
                "exp_avg": tensors[f"optimizer.{index}.exp_avg"].clone(),
                "exp_avg_sq": tensors[f"optimizer.{index}.exp_avg_sq"].clone(),
            }
    logger.info("resumed %s at step %d", folder, step)
    return Progress(step, float(metadata["seconds"]))


def _log(folder: Path, progress: Progress, metrics: dict[str, float]) -> None:
    row = {"step": progress.step, "seconds": round(progress.seconds, 1), **metrics}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
