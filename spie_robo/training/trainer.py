"""Train epoch by epoch: rollout, feedback, and optimiser steps over all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch import Tensor

from spie_robo.errors import TrainingError
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.ranking import rank
from spie_robo.feedback.records import Feedback, Scores
from spie_robo.training.advantages import within_groups
from spie_robo.training.checkpoint import (
    Position,
    Row,
    epochs_folder,
    load_training_state,
    save_training_state,
)
from spie_robo.training.config import TrainConfig
from spie_robo.training.inputs import EpochInputs, TrainingData, epoch_inputs
from spie_robo.training.objectives.base import Epoch
from spie_robo.training.rollout import Chain, Rollout, keep_relit, roll_out
from spie_robo.training.setup import build_objective, build_optimizer
from spie_robo.training.trained_editor import TrainedEditor


@final
class Trainer:
    """A loop that post-trains a policy.

    Args:
        policy: The editor in training.
        data: Data that epochs draw from.
        feedback: Model that scores edits.
        chain: Sampler of rollouts.
        config: Settings of the run.
        accelerator: Device, precision and processes.
        out: Folder for checkpoints; None keeps none.
        write_adapter: Function that writes the policy as an adapter, for checkpoints.
    """

    def __init__(
        self,
        policy: TrainedEditor,
        data: TrainingData,
        feedback: FeedbackModel,
        chain: Chain,
        config: TrainConfig,
        accelerator: Accelerator,
        out: Path | None = None,
        write_adapter: Callable[[Path], None] | None = None,
    ) -> None:
        """Build optimiser and objective."""
        self.policy, self.config, self.position = policy, config, Position()
        self._data, self._feedback, self._chain = data, feedback, chain
        self._accelerator, self._out, self._write_adapter = accelerator, out, write_adapter
        self._parameters = policy.parameters()
        self._optimizer = build_optimizer(policy, config)
        self._objective = build_objective(config, chain, feedback)

    def resume(self) -> None:
        """Continue from the newest whole checkpoint, if there is one.

        Raises:
            TrainingError: If the checkpoint is broken.
            ConfigError: If the run had other settings.
        """
        found = epochs_folder(self._out).checkpoints() if self._out else []
        if found:
            self.position = load_training_state(
                found[-1], self._parameters, self._optimizer, self.config
            )

    def run(self, on_epoch: Callable[[Position], Row] | None = None) -> Position:
        """Train up to ``config.epochs``.

        Args:
            on_epoch: Function that is called after each epoch, before its checkpoint; the metrics
                that it returns join the epoch's row.

        Raises:
            TrainingError: If too many steps in a row were not finite.
        """
        while self.position.epoch < self.config.epochs:
            row, skipped = self.run_epoch(self.position.epoch)
            position = Position(
                self.position.epoch + 1,
                self.position.skipped + 1 if skipped else 0,
                (*self.position.history, row),
            )
            if on_epoch is not None:
                row |= on_epoch(position)
                position = replace(position, history=(*self.position.history, row))
            self.position = position
            self._save()
            if position.skipped >= self.config.optimizer.max_skipped:
                raise TrainingError(
                    f"{position.skipped} epochs in a row changed nothing: no scorable edits, or a "
                    "gradient that is not finite. Lower the learning rate, or look at the scores."
                )
        return self.position

    def run_epoch(self, epoch: int) -> tuple[Row, bool]:
        """Run one epoch; return its metrics, and whether it changed nothing."""
        started = time.perf_counter()
        # Draw this process's share of the inputs.
        config, accelerator = self.config, self._accelerator
        inputs = epoch_inputs(
            self._data,
            config.rollout.inputs,
            seed=config.seed,
            epoch=epoch,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        # Sample the edits.
        with accelerator.autocast():
            if config.kept == "relit":
                inputs = keep_relit(
                    self.policy, inputs, config.rollout, self._chain, seed=config.seed, epoch=epoch
                )
            rollout = roll_out(
                self.policy, inputs, config.rollout, self._chain, seed=config.seed, epoch=epoch,
                record=self._objective.needs_log_probs,
            )  # fmt: skip
        # Score the edits and rank them over all processes.
        rolled = time.perf_counter()
        feedback = self._judge(inputs, rollout)
        judged = time.perf_counter()
        local = _rows_of(feedback, inputs.numbers)
        groups = int(feedback.scorable.sum())
        row: Row = {"epoch": epoch + 1, **_score_row(feedback)}
        # Update the policy, unless no edit could be ranked.
        skipped = groups == 0
        if not skipped:
            part = Epoch(inputs, rollout, local, groups, config.seed, epoch)
            metrics, skipped = self._update(part)
            row |= metrics
        finished = time.perf_counter()
        row |= {
            "skipped": float(skipped),
            "seconds": finished - started,
            "seconds_rollout": rolled - started,
            "seconds_feedback": judged - rolled,
            "seconds_update": finished - judged,
        }
        return row, skipped

    def _judge(self, inputs: EpochInputs, rollout: Rollout) -> Feedback:
        """Score this process's edits, and rank them over all processes."""
        scores = self._feedback.score(inputs.judged, rollout.edits)
        order = torch.tensor(inputs.numbers)
        numbers, structural, semantic = (
            self._gathered(tensor) for tensor in (order, scores.structural, scores.semantic)
        )
        sorting = numbers.argsort()
        weights = self.config.feedback
        feedback = rank(
            Scores(structural[sorting], semantic[sorting]),
            structural_weight=weights.structural_weight,
            semantic_weight=weights.semantic_weight,
        )
        return within_groups(feedback) if self.config.group_advantages else feedback

    def _gathered(self, tensor: Tensor) -> Tensor:
        gathered: Tensor = self._accelerator.gather(tensor.to(self._accelerator.device))
        return gathered.cpu()

    def _update(self, epoch: Epoch) -> tuple[Row, bool]:
        """Run the optimiser steps of an epoch; a non-finite gradient is skipped."""
        with self._accelerator.autocast():
            prepared = self._objective.prepare(self.policy, epoch)
        row: Row = {}
        updates, skipped = self.config.optimizer.updates, 0
        for _ in range(updates):
            row = self.accumulate(epoch, prepared)
            norm = self._clip()
            row["gradient_norm"] = float(norm)
            if torch.isfinite(norm):
                self._optimizer.step()
            else:
                skipped += 1
        self._optimizer.zero_grad(set_to_none=True)
        row["skipped_updates"] = float(skipped)
        return row, skipped == updates

    def accumulate(self, epoch: Epoch, prepared: object) -> Row:
        """Accumulate the gradient of the whole objective, over all processes."""
        self._optimizer.zero_grad(set_to_none=True)
        row: Row = {"loss": 0.0}
        with self._accelerator.autocast():
            for loss, metrics, share in self._objective.terms(self.policy, epoch, prepared):
                self._accelerator.backward(loss)
                row["loss"] += float(loss.detach())
                for name, value in metrics.items():
                    row[name] = row.get(name, 0.0) + share * value
        for parameter in self._parameters.values():
            if parameter.grad is None:  # a process without scorable inputs still takes part
                parameter.grad = torch.zeros_like(parameter)
        return self._summed(row) if self._accelerator.num_processes > 1 else row

    def _summed(self, row: Row) -> Row:
        """Sum the gradients over all processes, in place, and the metrics."""
        parameters = list(self._parameters.values())
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        parts = self._accelerator.reduce(flat, reduction="sum").split(
            [p.numel() for p in parameters]
        )
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        rows: list[Row] = gather_object([row])
        names = sorted({name for other in rows for name in other})
        return {name: sum(other.get(name, 0.0) for other in rows) for name in names}

    def _clip(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(
            list(self._parameters.values()), self.config.optimizer.clip
        )

    def _save(self) -> None:
        epoch = self.position.epoch
        due = epoch % self.config.checkpoint_every == 0 or epoch == self.config.epochs
        if self._out is None or self._write_adapter is None or not due:
            return
        if self._accelerator.is_main_process:
            save_training_state(
                self._out,
                self.position,
                self._parameters,
                self._optimizer,
                self.config,
                self._write_adapter,
            )
        self._accelerator.wait_for_everyone()


def _rows_of(feedback: Feedback, numbers: tuple[int, ...]) -> Feedback:
    """Return the part of a gathered feedback that belongs to this process."""
    rows = list(numbers)
    return replace(
        feedback,
        scores=Scores(feedback.scores.structural[rows], feedback.scores.semantic[rows]),
        structural_z=feedback.structural_z[rows],
        semantic_z=feedback.semantic_z[rows],
        advantages=feedback.advantages[rows],
        ranking=feedback.ranking[rows],
        scorable=feedback.scorable[rows],
    )


def _score_row(feedback: Feedback) -> Row:
    scores, scorable = feedback.scores, feedback.scorable
    if not scorable.any():
        return {"unscorable": float(len(scorable))}
    structural, semantic = scores.structural[scorable], scores.semantic[scorable]
    return {
        "structural": float(structural.mean()),
        "semantic": float(semantic.mean()),
        "structural_spread": float(structural.std(dim=1).mean()),
        "semantic_spread": float(semantic.std(dim=1).mean()),
        "unscorable": float((~scorable).sum()),
    }
