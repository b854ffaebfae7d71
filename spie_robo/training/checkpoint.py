"""Write and read checkpoints, so that a resumed run equals an uninterrupted one.

On a CPU they are equal to the last bit; on a GPU as far as its kernels sum in the same order.

::

    checkpoints/epoch_00003/       after 3 epochs; the two newest checkpoints are kept
        adapter/                   an adapter folder, as ``Editor.from_pretrained`` loads it
        state.safetensors          "parameter.NAME", "exp_avg.NAME", "exp_avg_sq.NAME"
        history.json               one record an epoch
        complete.json              epoch, optimiser steps, skipped steps, settings; written last

A folder is written under another name and renamed when it is complete. Random numbers are functions
of the seed and the epoch, so no random state is stored.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spie_robo.errors import TrainingError
from spie_robo.files.run_folder import MARKER, RunFolder, require_same_settings
from spie_robo.training.config import TrainConfig

_STATE = "state.safetensors"
_HISTORY = "history.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_MAY_CHANGE = ("epochs", "checkpoint_every")

Row = dict[str, float]


@final
@dataclass(frozen=True, eq=False)
class Position:
    """The position of a run: its epochs and their metrics.

    Attributes:
        epoch: Number of finished epochs.
        skipped: Number of non-finite steps in a row at the end.
        history: One row of metrics an epoch.
    """

    epoch: int = 0
    skipped: int = 0
    history: tuple[Row, ...] = ()


def epochs_folder(out: Path) -> RunFolder:
    """Return the folder of a post-training run, whose checkpoints count epochs."""
    return RunFolder(out, "epoch", 5)


def save_training_state(
    out: Path,
    position: Position,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    write_adapter: Callable[[Path], None],
) -> Path:
    """Write a checkpoint, whole or not at all, and delete old ones.

    Args:
        out: Folder of the run.
        position: Position of the run.
        parameters: Trained parameters by name.
        optimizer: Optimiser of these parameters, in this order.
        config: Settings of the run.
        write_adapter: Function that writes the adapter into a folder.

    Raises:
        TrainingError: If the disk fails; earlier checkpoints are kept.
    """
    marker = {
        "epoch": position.epoch,
        "skipped": position.skipped,
        "steps": _steps(parameters, optimizer),
        "settings": dataclasses.asdict(config),
    }

    def write(folder: Path) -> None:
        write_adapter(folder / "adapter")
        save_file(_tensors(parameters, optimizer), folder / _STATE)
        (folder / _HISTORY).write_text(json.dumps(position.history))

    return epochs_folder(out).save(position.epoch, marker, write)


def load_training_state(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> Position:
    """Load a checkpoint into parameters and optimiser.

    Raises:
        TrainingError: If a file is missing, cut short, or belongs to another adapter.
        ConfigError: If the run had other settings.
    """
    # Read all files, and compare the settings.
    try:
        marker = json.loads((folder / MARKER).read_text())
        history = tuple(json.loads((folder / _HISTORY).read_text()))
        tensors = load_file(folder / _STATE)
        epoch, skipped, steps = marker["epoch"], marker["skipped"], marker["steps"]
        now = json.loads(json.dumps(dataclasses.asdict(config)))
        require_same_settings(folder, dict(marker["settings"]), now, _MAY_CHANGE)
        moments = _moments(tensors, parameters) if steps else {}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"Checkpoint {folder} is broken ({error}). Delete it to resume from the one before."
        ) from error
    # Check every shape before anything is changed.
    wanted = {f"parameter.{name}": p for name, p in parameters.items()}
    misfits = [
        key for key, p in wanted.items() if key not in tensors or tensors[key].shape != p.shape
    ]
    if misfits:
        raise TrainingError(f"Checkpoint {folder} belongs to another adapter: {misfits[:3]}.")
    # Set parameters and the optimiser's state.
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(tensors[key])
    for name, state in moments.items():
        optimizer.state[parameters[name]] = {"step": torch.tensor(float(steps)), **state}
    return Position(epoch, skipped, history)


def _tensors(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    tensors = {f"parameter.{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS if moment in state}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _moments(
    tensors: dict[str, Tensor], parameters: dict[str, nn.Parameter]
) -> dict[str, dict[str, Tensor]]:
    """Return AdamW's state of each parameter; raise KeyError if one is missing."""
    return {
        name: {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS}
        for name, parameter in parameters.items()
    }


def _steps(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    states = [optimizer.state.get(parameter, {}) for parameter in parameters.values()]
    return max((int(state["step"]) for state in states if "step" in state), default=0)
