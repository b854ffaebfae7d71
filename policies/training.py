"""Run ``spie-robo policy train``: stores become the folder of a policy."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from spie_robo.errors import ConfigError, TrainingError
from spie_robo.files.curves import open_curves
from spie_robo.files.lock import StoreLock
from spie_robo.files.run_folder import LOGS
from spie_robo.policies.base import Augmentation, Policy, PolicySpec, build_policy
from spie_robo.policies.cache import default_cache_folder
from spie_robo.policies.checkpoint import (
    CONFIG,
    StepProgress,
    load_policy_state,
    save_policy,
    save_policy_state,
    steps_folder,
)
from spie_robo.policies.config import PolicyTrainConfig
from spie_robo.policies.dataset import WindowDataset
from spie_robo.policies.windows import WindowShape

MAX_SKIPPED = 10
_CLIP = 1.0
_WEIGHT_DECAY = 1e-6
_LOG_EVERY = 10


@final
@dataclass(frozen=True)
class PolicyTrainSummary:
    """The result of a training run.

    Attributes:
        out: Folder of the policy.
        steps: Number of steps, with those before a resume.
        skipped: Number of steps that were not finite and changed nothing.
        loss: Running mean of the loss at the end.
        windows: Number of windows in an epoch.
        seconds: Duration of the steps of this call, seconds.
        cameras: Cameras of the policy, by their names in the environment.
        state_dim: Number of values in the policy's state.
        env_id: Environment of the stores; empty if unknown.
    """

    out: Path
    steps: int
    skipped: int
    loss: float
    windows: int
    seconds: float
    cameras: tuple[str, ...] = ()
    state_dim: int = 0
    env_id: str = ""

    def __str__(self) -> str:
        """Return the result in one line."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        parts = [", ".join(self.cameras)] if self.cameras else []
        parts += [f"a state of {self.state_dim} numbers"] if self.state_dim else []
        seen = " and ".join(parts)
        return (
            f"{self.out}: {self.steps} steps on {self.windows} windows of {seen}{skipped}, loss "
            f"{self.loss:.4f}, {self.seconds:.0f} s"
        )


def train_policy(config: PolicyTrainConfig, *, progress: bool = True) -> PolicyTrainSummary:
    """Train a policy with the settings of ``config``.

    Raises:
        ConfigError: If settings do not fit each other, ``out`` cannot be written or holds a run
            that is not to be resumed, or that run had other settings.
        StoreError: If a store cannot be used, or another process is training in ``out``.
        TrainingError: If a checkpoint is broken, too many steps in a row were not finite, or the
            last ones were not.
    """
    # Open the stores and build the trainer, from a checkpoint if asked for.
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _require_free(config)
    dataset = open_dataset(config)
    for note in dataset.notes if progress else ():
        tqdm.write(note, file=sys.stderr)
    trainer = PolicyTrainer(build_new_policy(config, dataset), dataset, config)
    if config.resume:
        trainer.resume()
    # Train and write the averaged policy.
    started = time.perf_counter()
    trainer.run(show=progress)
    done = trainer.progress
    if done.skipped_in_a_row:
        raise TrainingError(_not_finite(done, config.out))
    save_policy(config.out, trainer.averaged)
    return PolicyTrainSummary(
        out=config.out,
        steps=done.step,
        skipped=done.step - done.updates,
        loss=done.loss,
        windows=len(dataset),
        seconds=time.perf_counter() - started,
        cameras=tuple(dataset.cameras),
        state_dim=dataset.state_dim,
        env_id=dataset.env_id,
    )


def open_dataset(config: PolicyTrainConfig) -> WindowDataset:
    """Open the windows of the stores in ``config``.

    Raises:
        StoreError: If a store cannot be used.
        ConfigError: If settings do not fit each other.
    """
    return WindowDataset(
        config.stores,
        WindowShape(config.observation_horizon, config.chunk_length, config.action_steps),
        cameras=config.camera or None,
        state=config.state,
        image_size=config.image_size,
        weights=config.weights or None,
        cache=default_cache_folder() if config.cache == "disk" else None,
    )


def build_new_policy(config: PolicyTrainConfig, dataset: WindowDataset) -> Policy:
    """Build an untrained policy with weights of ``config.seed`` and the data's normalisers."""
    spec = PolicySpec(
        algorithm=config.algorithm,
        cameras=tuple(dataset.cameras),
        state_keys=dataset.state_keys,
        state_dim=dataset.state_dim,
        action_dim=dataset.action_dim,
        observation_horizon=config.observation_horizon,
        horizon=config.chunk_length,
        action_steps=config.action_steps,
        image_size=config.image_size,
        env_id=dataset.env_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        policy = build_policy(spec)
    if spec.state_dim:
        policy.state_normalizer.fit(dataset.states)
    policy.action_normalizer.fit(dataset.actions)
    return policy


@final
class PolicyTrainer:
    """The loop of a run: AdamW with warm-up and cosine, and an average of the weights.

    Args:
        policy: Policy to train.
        dataset: Windows to learn from.
        config: Settings of the run.
    """

    def __init__(self, policy: Policy, dataset: WindowDataset, config: PolicyTrainConfig) -> None:
        """Build the optimiser; CUDA is used if available."""
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.policy, self.progress = policy.to(self._device), StepProgress()
        self._dataset, self._config = dataset, config
        self._average = AveragedModel(self.policy, avg_fn=_average)
        self._optimizer = torch.optim.AdamW(
            policy.parameters(), lr=config.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        self._settings = _settings(config, dataset)

    @property
    def averaged(self) -> Policy:
        """Policy with averaged weights, which is the one to act with."""
        return cast("Policy", self._average.module)

    def resume(self) -> None:
        """Continue from the newest whole checkpoint, if there is one.

        Raises:
            TrainingError: If the checkpoint is broken.
            ConfigError: If the run had other settings.
        """
        found = steps_folder(self._config.out).checkpoints()
        if found:
            self.progress = load_policy_state(
                found[-1], self.policy, self._average, self._optimizer, self._settings
            )

    def run(self, until: int | None = None, *, show: bool = True) -> None:
        """Train up to step ``until``, or to the end.

        Raises:
            TrainingError: If too many steps in a row were not finite.
            ConfigError: If the run's folder cannot be written.
            StoreLockedError: If another process is training in it.
        """
        config = self._config
        until = config.steps if until is None else min(until, config.steps)
        done = self.progress.step
        with (
            open_curves(config.out / LOGS, done + 1) as add_point,
            StoreLock(config.out.resolve() / LOGS / "run"),
            tqdm(total=until, initial=done, desc="policy", unit="step", disable=not show) as bar,
        ):
            while self.progress.step < until:
                metrics = self.step()
                step = self.progress.step
                bar.update()
                if step % _LOG_EVERY == 0 or step == until:
                    bar.set_postfix(loss=f"{self.progress.loss:.4f}")
                    for name, value in metrics.items():
                        add_point(name, value, step)
                due = step % config.checkpoint_every == 0 or step == until
                if due and not self.progress.skipped_in_a_row:  # keep the good checkpoints
                    self._save()

    def step(self) -> dict[str, float]:
        """Run one step; a loss or gradient that is not finite changes nothing and is counted.

        Raises:
            TrainingError: If too many steps in a row were not finite.
        """
        # Compute loss and gradient of one batch.
        now, config = self.progress, self._config
        batch = self._dataset.batch(now.step, config.batch_size, seed=config.seed)
        augmentation = Augmentation(config.shift, config.color)
        generator = _generator(config.seed, now.step)
        loss, metrics = self.policy.loss(batch.to(self._device), generator, augmentation)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), _CLIP)
        rate = learning_rate(config, now.step)
        value = float(loss.detach())
        finite = math.isfinite(value) and math.isfinite(float(norm))
        # Update the weights and their average, or count a skipped step.
        if finite:
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self._average.update_parameters(self.policy)
            mean = value if not now.updates else now.loss + 0.02 * (value - now.loss)
            self.progress = StepProgress(now.step + 1, now.updates + 1, 0, mean)
        else:
            self.progress = replace(
                now, step=now.step + 1, skipped_in_a_row=now.skipped_in_a_row + 1
            )
            if self.progress.skipped_in_a_row >= MAX_SKIPPED:
                raise TrainingError(_not_finite(self.progress, config.out))
        skipped = float(self.progress.step - self.progress.updates)
        return {**metrics, "gradient_norm": float(norm), "learning_rate": rate, "skipped": skipped}

    def _save(self) -> None:
        save_policy_state(
            self._config.out,
            self.progress,
            self.policy,
            self._average,
            self._optimizer,
            self._settings,
        )


def learning_rate(config: PolicyTrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up over up to 100 steps, then a cosine to 0."""
    warmup = max(1, min(100, config.steps // 10))
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * min(1.0, (step + 1) / warmup) * cosine


def _average(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Average exponentially with a memory that grows with the run: decay 1 - (1 + n)^(-3/4).

    This is Diffusion Policy's schedule; in short runs too it averages over the last part.
    """
    decay = min(1 - (1 + int(count)) ** -0.75, 0.9999)
    moved: Tensor = average + (1 - decay) * (current - average)
    return moved


def _generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of a step's random draws, a function of seed and step."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _not_finite(progress: StepProgress, out: Path) -> str:
    count = progress.skipped_in_a_row
    return (
        f"{out}: the last {count} steps in a row changed nothing, the loss or its gradient is not "
        f"finite since step {progress.step - count}. No policy was written: start again with a "
        "lower --learning-rate and another --out."
    )


def _settings(config: PolicyTrainConfig, dataset: WindowDataset) -> dict[str, Any]:
    """Return the settings that a resumed run must share, as plain values."""
    record = dataclasses.asdict(config) | {"windows": len(dataset), "content": dataset.digest()}
    record["stores"] = [str(path.resolve()) for path in config.stores]
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _require_free(config: PolicyTrainConfig) -> None:
    """Refuse an output that holds another run or other files, or no run to resume."""
    within = {config.out.resolve(), *config.out.resolve().parents}
    if inside := [store for store in config.stores if store.resolve() in within]:
        raise ConfigError(
            f"--out {config.out}: expected a folder of its own, this is one of the stores, or in "
            f"it: {inside[0]}."
        )
    steps_folder(config.out).claim(config.resume, CONFIG)
