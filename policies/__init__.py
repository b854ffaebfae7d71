"""Policies that learn from episode stores: behaviour cloning and Diffusion Policy.

Names are loaded on first use, so that importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.policies.config import PolicyEvaluateConfig, PolicyTrainConfig
    from spie_robo.policies.dataset import WindowBatch, WindowDataset
    from spie_robo.policies.evaluate import EvaluationResult, evaluate_policy, wilson_interval
    from spie_robo.policies.policy import ActingPolicy, load_policy
    from spie_robo.policies.training import PolicyTrainSummary, train_policy
    from spie_robo.policies.windows import WindowShape

_HOMES = {
    "ActingPolicy": "policy",
    "EvaluationResult": "evaluate",
    "PolicyEvaluateConfig": "config",
    "PolicyTrainConfig": "config",
    "PolicyTrainSummary": "training",
    "WindowBatch": "dataset",
    "WindowDataset": "dataset",
    "WindowShape": "windows",
    "evaluate_policy": "evaluate",
    "load_policy": "policy",
    "train_policy": "training",
    "wilson_interval": "evaluate",
}

__all__ = [
    "ActingPolicy",
    "EvaluationResult",
    "PolicyEvaluateConfig",
    "PolicyTrainConfig",
    "PolicyTrainSummary",
    "WindowBatch",
    "WindowDataset",
    "WindowShape",
    "evaluate_policy",
    "load_policy",
    "train_policy",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
