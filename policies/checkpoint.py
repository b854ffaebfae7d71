"""Write and read policies, and checkpoints from which a run resumes exactly.

On a CPU with the same number of threads a resumed run is equal to the last bit.

::

    policy.safetensors          the averaged weights, with the normalisers
    config.json                 the PolicySpec, and the SHA-256 of the weights; written last
    checkpoints/step_0000500/   after 500 steps; the two newest are kept
        state.safetensors       "policy.NAME", "average.NAME", "exp_avg.NAME", "exp_avg_sq.NAME"
        complete.json           steps, skipped steps, settings; written last

A file or a checkpoint's folder is written under another name and renamed. Order, noise and
augmentation are functions of seed and step, so no random state is stored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spie_robo.errors import ConfigError, TrainingError
from spie_robo.files.output import write_bytes, write_json
from spie_robo.files.run_folder import MARKER, RunFolder, require_same_settings
from spie_robo.policies.base import Policy, build_policy, spec_from_json

WEIGHTS = "policy.safetensors"
CONFIG = "config.json"
FORMAT = "spie_robo.policy"
_STATE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_COUNT = "n_averaged"
_MAX_CONFIG_BYTES = 2**20
_MAY_CHANGE = ("out", "resume", "threads", "checkpoint_every", "cache")


@final
@dataclass(frozen=True)
class StepProgress:
    """The position of a run.

    Attributes:
        step: Number of steps done, with skipped ones.
        updates: Number of steps that changed the weights.
        skipped_in_a_row: Number of non-finite steps at the end.
        loss: Running mean of the loss.
    """

    step: int = 0
    updates: int = 0
    skipped_in_a_row: int = 0
    loss: float = 0.0


def save_policy(folder: Path, policy: Policy) -> None:
    """Write a policy's folder; an older policy in it stays complete until the new one is.

    Raises:
        ConfigError: If the disk is full or fails.
    """
    weights = save({k: v.cpu().contiguous() for k, v in policy.state_dict().items()})
    record = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "spec": dataclasses.asdict(policy.spec),
    }
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, record)


def read_policy(folder: Path) -> Policy:
    """Read a policy's folder.

    Returns:
        The policy on the CPU, in evaluation mode.

    Raises:
        ConfigError: If there is no policy in the folder.
        TrainingError: If a file is damaged, or the files do not belong together.
    """
    # Both files must exist.
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{folder}: expected the folder of a policy with {CONFIG} and {WEIGHTS}, as "
            "`spie-robo policy train` leaves it when it is done."
        )
    # Build the policy from its settings.
    try:
        if (size := (folder / CONFIG).stat().st_size) > _MAX_CONFIG_BYTES:
            raise ValueError(f"{size} bytes")
        record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}")
        policy = build_policy(spec_from_json(record["spec"]))
        weights = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ConfigError) as error:
        raise TrainingError(
            f"{folder / CONFIG}: it is no policy's ({error}). Train the policy again."
        ) from error
    # Load the weights that the settings name.
    if hashlib.sha256(weights).hexdigest() != record.get("weights_sha256"):
        raise TrainingError(
            f"{folder / WEIGHTS}: it is damaged, or not the file that {CONFIG} belongs to. Restore "
            "the folder from a copy, or train the policy again with --resume."
        )
    try:
        policy.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"{folder / WEIGHTS}: its tensors do not fit {CONFIG}. Use the spie_robo release that "
            "wrote it, or train the policy again."
        ) from error
    return policy.eval()


def steps_folder(out: Path) -> RunFolder:
    """Return the folder of a policy's run, which counts checkpoints by steps."""
    return RunFolder(out, "step", 7)


def save_policy_state(
    out: Path,
    progress: StepProgress,
    policy: Policy,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all, and delete old ones.

    Raises:
        TrainingError: If the disk is full or fails.
    """
    marker = {"progress": dataclasses.asdict(progress), "settings": dict(settings)}
    tensors = _tensors(policy, average, optimizer)
    steps_folder(out).save(
        progress.step, marker, lambda folder: save_file(tensors, folder / _STATE)
    )


def load_policy_state(
    folder: Path,
    policy: Policy,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
) -> StepProgress:
    """Load a checkpoint into policy, average and optimiser.

    Raises:
        TrainingError: If a file is missing, cut short, or belongs to another policy.
        ConfigError: If the run had other settings.
    """
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        require_same_settings(folder, dict(marker["settings"]), settings, _MAY_CHANGE)
        progress = StepProgress(**marker["progress"])
        tensors = load_file(folder / _STATE)
        policy.load_state_dict(_with_prefix(tensors, "policy"))
        average.module.load_state_dict(_with_prefix(tensors, "average"))
        average.n_averaged.copy_(tensors[_COUNT])
        for name, parameter in policy.named_parameters():
            if progress.updates:
                moments = {m: tensors[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS}
                step = torch.tensor(float(progress.updates))
                optimizer.state[parameter] = {"step": step, **moments}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"Checkpoint {folder} is broken ({error}). Delete it to resume from the one before."
        ) from error
    return progress


def _tensors(
    policy: Policy, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    module: nn.Module = average.module
    tensors = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors[_COUNT] = average.n_averaged
    for name, parameter in policy.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS if moment in state}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
