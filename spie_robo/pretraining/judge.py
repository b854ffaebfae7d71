"""Trains the geometry judge's head on rendered frames, resumably and reproducibly.

Each step draws its samples from a generator seeded by (seed, step), so that a run that was killed
and resumed sees what an unbroken run sees.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from spie_robo.errors import ConfigError
from spie_robo.guard.classes import GeometryClass
from spie_robo.guard.judge import GeometryJudge, JudgeConfig
from spie_robo.guard.relative_depth import depth_error
from spie_robo.pretraining.judge_samples import JudgeBatch, sample_batch
from spie_robo.pretraining.shards import PairShards

logger = logging.getLogger(__name__)

_THIN_CLASSES = (GeometryClass.ROBOT, GeometryClass.OBJECT, GeometryClass.GOAL)

_SMALL_CLASSES = (GeometryClass.OBJECT, GeometryClass.GOAL)


@final
@dataclass(frozen=True)
class JudgeTrainingConfig:
    """Everything that decides what judge comes out.

    Attributes:
        pairs: Folder of rendered shards.
        out: Folder for ``judge.safetensors``, ``checkpoint.safetensors`` and ``metrics.json``.
        steps: Optimiser steps in all.
        batch_size: Samples a step.
        learning_rate: Peak rate of AdamW; cosine decay to zero.
        warmup: Steps of linear warm-up.
        small_weight: How much more a pixel of an object or goal counts: they are few.
        boundary_weight: How much more a pixel within 2 pixels of a class boundary counts.
        depth_weight: Weight of the depth term beside the class terms.
        seed: Seed of weights and samples.
        bfloat16: Run the network in bfloat16 autocast: a quarter faster on CPUs that have it.
        threads: CPU threads.
        checkpoint_every: Steps between checkpoints.
        judge: Shape of the judge.
    """

    pairs: Path = Path("runs/pairs")
    out: Path = Path("runs/judge")
    steps: int = 4000
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup: int = 100
    small_weight: float = 2.0
    boundary_weight: float = 3.0
    depth_weight: float = 2.0
    seed: int = 0
    bfloat16: bool = True
    threads: int = 1
    checkpoint_every: int = 200
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name in ("steps", "batch_size", "threads", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, got {getattr(self, name)}.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected more than 0, got {self.learning_rate}.")


def train_judge(config: JudgeTrainingConfig) -> Path:
    """Train the head, from the last checkpoint in ``config.out`` if there is one.

    Args:
        config: What to train on, for how long.

    Returns:
        The file with the trained weights.

    Raises:
        ConfigError: If there are no shards, or the checkpoint is of another configuration.
    """
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    shards = PairShards(config.pairs)
    indices = shards.split("train")
    torch.manual_seed(config.seed)
    judge = GeometryJudge(config.judge)
    optimizer = torch.optim.AdamW(judge.head.parameters(), config.learning_rate, weight_decay=1e-4)
    first = _resume(config, judge, optimizer)
    judge.train()
    for step in tqdm(range(first, config.steps), initial=first, total=config.steps, unit="step"):
        generator = np.random.default_rng((config.seed, step))
        batch = sample_batch(shards, indices, config.batch_size, generator)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            log_depth, logits = judge(batch.images)
        loss, parts = judge_loss(log_depth.float(), logits.float(), batch, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(judge.head.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            logger.info("step %d: %s", step + 1, {k: round(v, 4) for k, v in parts.items()})
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _checkpoint(config, judge, optimizer, step + 1)
    judge.eval()
    judge.save(config.out / "judge.safetensors")
    metrics = evaluate_judge(judge, shards)
    (config.out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    return config.out / "judge.safetensors"


def judge_loss(
    log_depth: Tensor, logits: Tensor, batch: JudgeBatch, config: JudgeTrainingConfig
) -> tuple[Tensor, dict[str, float]]:
    """Boundary-weighted cross-entropy, Dice of the thin classes, and log-depth error.

    Args:
        log_depth: (N, S, S), predicted.
        logits: (N, C, S, S), predicted.
        batch: The targets.
        config: The weights.

    Returns:
        The loss, a scalar, and its parts by name.
    """
    small = torch.isin(batch.classes, torch.tensor(_SMALL_CLASSES))
    weight = 1.0 + config.boundary_weight * _near_boundary(batch.classes)
    weight = weight + config.small_weight * small
    entropy = functional.cross_entropy(logits, batch.classes, reduction="none")
    class_loss = (entropy * weight).sum() / weight.sum()
    probability = logits.softmax(dim=1)
    target = functional.one_hot(batch.classes, logits.shape[1]).movedim(-1, 1).float()
    thin = list(_THIN_CLASSES)
    overlap = (probability * target)[:, thin].sum(dim=(0, 2, 3))
    total = (probability + target)[:, thin].sum(dim=(0, 2, 3))
    dice_loss = (1.0 - (2.0 * overlap + 1.0) / (total + 1.0)).mean()
    depth_loss = _depth_loss(log_depth, batch.log_depth)
    loss = class_loss + 0.5 * dice_loss + config.depth_weight * depth_loss
    parts = {
        "loss": float(loss.detach()),
        "classes": float(class_loss.detach()),
        "dice": float(dice_loss.detach()),
        "depth": float(depth_loss.detach()),
    }
    return loss, parts


def _near_boundary(classes: Tensor) -> Tensor:
    """1 where another class is within 2 pixels, else 0; float32, (N, S, S)."""
    values = classes[:, None].float()
    highest = functional.max_pool2d(values, 5, stride=1, padding=2)
    lowest = -functional.max_pool2d(-values, 5, stride=1, padding=2)
    return (highest != lowest).float()[:, 0]


def _depth_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute log error once the offset is removed, plus a fifth of the offset itself.

    The offset is the scale of the scene, which one picture hardly tells.
    """
    known = torch.isfinite(target)
    difference = torch.where(known, predicted - target.nan_to_num(), torch.zeros_like(predicted))
    count = known.sum(dim=(1, 2)).clamp(min=1)
    offset = difference.sum(dim=(1, 2)) / count
    residual = (difference - offset[:, None, None]).abs() * known
    return (residual.sum(dim=(1, 2)) / count).mean() + 0.2 * offset.abs().mean()


def _rate(step: int, config: JudgeTrainingConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


@torch.no_grad()
def evaluate_judge(
    judge: GeometryJudge, shards: PairShards, limit: int = 200
) -> dict[str, dict[str, float]]:
    """A score tells how well the judge reads pairs of styles that it was not trained on.

    Args:
        judge: The judge.
        shards: The rendered pairs.
        limit: Number of pairs to look at.

    Returns:
        For ``simulator`` and ``twin`` frames: IoU of each class over all pixels, and the mean
        normalised depth error.
    """
    indices = shards.split("held-out")[:limit]
    results: dict[str, dict[str, float]] = {}
    for domain in ("simulator", "twin"):
        hits, union = np.zeros(len(GeometryClass)), np.zeros(len(GeometryClass))
        errors = []
        for image in (getattr(shards[int(index)], domain) for index in indices):
            estimate = judge.estimate([image.rgb])[0]
            errors.append(depth_error(estimate.log_depth, np.log(image.depth)))
            for known in GeometryClass:
                found, true = estimate.classes == known, image.classes == known
                hits[known] += (found & true).sum()
                union[known] += (found | true).sum()
        scores = {f"iou_{c.name.lower()}": float(hits[c] / max(union[c], 1)) for c in GeometryClass}
        results[domain] = {**scores, "depth_error": float(np.mean(errors)), "frames": len(errors)}
    return results


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            yield f"optimizer.{index}.{key}", value


def _checkpoint(
    config: JudgeTrainingConfig, judge: GeometryJudge, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Write everything that resuming needs into one file, replaced at once."""
    tensors = {f"head.{name}": value for name, value in judge.head.state_dict().items()}
    tensors |= dict(_optimizer_tensors(optimizer))
    staged = config.out / "checkpoint.staged"
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        staged,
        metadata={"step": str(step), "config": _fingerprint(config)},
    )
    os.replace(staged, config.out / "checkpoint.safetensors")


def _resume(
    config: JudgeTrainingConfig, judge: GeometryJudge, optimizer: torch.optim.Optimizer
) -> int:
    """Restore the last checkpoint and return the next step; 0 if there is none."""
    path = config.out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    if metadata["config"] != _fingerprint(config):
        raise ConfigError(
            f"{path} belongs to a run with other settings: {metadata['config']}, now "
            f"{_fingerprint(config)}. Choose another folder for out, or remove it."
        )
    tensors = load_file(path)
    prefix = "head."
    judge.head.load_state_dict(
        {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(metadata["step"])


def _fingerprint(config: JudgeTrainingConfig) -> str:
    """Return what must not change between a run and its continuation."""
    values = asdict(config)
    for free in ("out", "threads", "checkpoint_every"):
        values.pop(free)
    return json.dumps(values, default=str, sort_keys=True)
