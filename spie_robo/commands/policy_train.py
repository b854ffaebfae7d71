"""``spie-robo policy train``: a policy from the episodes of one or several stores."""

from __future__ import annotations

import shlex

from spie_robo.commands.base import Command, checkpoints_kept, quoted
from spie_robo.policies.config import PolicyTrainConfig


def _run(options: PolicyTrainConfig) -> int:
    """Train a policy on episodes."""
    from spie_robo.policies.training import train_policy

    summary = train_policy(options)
    print(f"{summary}.")
    env = shlex.quote(summary.env_id) if summary.env_id else "ID"
    command = f"spie-robo policy evaluate {quoted(options.out)} --env {env} --episodes 50"
    print(f"Next: {command}")
    return 0


COMMAND = Command(
    PolicyTrainConfig,
    _run,
    "Train a policy on episodes: behaviour cloning or Diffusion Policy.",
    checkpoints_kept,
)
