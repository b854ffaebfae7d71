from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spie_robo.errors import ConfigError
from spie_robo.pretraining.config import LoopConfig
from spie_robo.pretraining.loop import Progress, run_loop

CONFIG = LoopConfig(
    steps=40, batch=4, learning_rate=0.05, warmup=5, checkpoint_every=20, bfloat16=False
)


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def loss_of(network: nn.Module, calls: list[int] | None = None, stop_at: int | None = None):  # type: ignore[no-untyped-def]
    """Fit y = sum(x); optionally fail at the n-th call, as a kill would."""

    def loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if calls is not None:
            calls.append(1)
            if stop_at is not None and len(calls) > stop_at:
                raise KeyboardInterrupt
        x = torch.randn(CONFIG.batch, 3, generator=generator)
        return (network(x)[:, 0] - x.sum(dim=1)).square().mean(), {"extra": 1.0}

    return loss


def test_it_learns_and_leaves_the_average(tmp_path: Path) -> None:
    network = model()
    config = replace(CONFIG, steps=300, ema=0.9)
    assert run_loop(network, loss_of(network), config, tmp_path, seed=0).step == 300
    assert torch.allclose(network.weight, torch.ones(1, 3), atol=0.1)


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = model()
    run_loop(whole, loss_of(whole), CONFIG, tmp_path / "whole", seed=3)
    first = model()
    with pytest.raises(KeyboardInterrupt):
        run_loop(first, loss_of(first, [], stop_at=27), CONFIG, tmp_path / "parts", seed=3)
    second = model()
    run_loop(second, loss_of(second), CONFIG, tmp_path / "parts", seed=3)
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.bias, second.bias)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    network = model()
    run_loop(network, loss_of(network), CONFIG, tmp_path, seed=0)
    calls: list[int] = []
    again = model()
    progress = run_loop(again, loss_of(again, calls), CONFIG, tmp_path, seed=0)
    assert progress.step == 40 and not calls
    assert torch.equal(network.weight, again.weight)


def test_a_non_finite_loss_changes_nothing(tmp_path: Path) -> None:
    network = model()
    before = network.weight.detach().clone()

    def loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return network.weight.sum() * float("nan"), {}

    run_loop(network, loss, replace(CONFIG, steps=3), tmp_path, seed=0)
    assert torch.equal(network.weight, before)


def test_the_log_has_every_twentieth_step(tmp_path: Path) -> None:
    network = model()
    seen: list[int] = []

    def on_checkpoint(averaged: nn.Module, progress: Progress) -> None:
        assert not averaged.training
        seen.append(progress.step)

    run_loop(network, loss_of(network), CONFIG, tmp_path, 0, on_checkpoint)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40] == seen
    assert rows[0]["extra"] == 1.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError):
        LoopConfig(steps=0, batch=1, learning_rate=0.1)
    with pytest.raises(ConfigError):
        LoopConfig(steps=1, batch=1, learning_rate=2.0)
